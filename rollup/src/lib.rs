//! The rollup server: takes touched counters from sidecars and rolls them up.
