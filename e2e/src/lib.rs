//! What the end-to-end tests share: processes of the data plane, load, and what was acknowledged.
