//! Installs, starts and stops the real servers that Tallyman counts on: Apache Cassandra and memcached, on this machine alone, for
//! development, tests and benchmarks. Knows nothing of Tallyman.
