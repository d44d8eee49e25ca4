//! `tallyman-operator`: keeps what CounterNamespaces ask for. Everything is in the library.
fn main() {}
