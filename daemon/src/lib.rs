//! What every long-running process of Tallyman has: its options, a configuration file, logs and traces, admin pages, and an
//! orderly end. Knows neither the API nor the engine.
