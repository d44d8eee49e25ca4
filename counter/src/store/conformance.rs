//! The conformance suites of the store traits, beside the traits.
