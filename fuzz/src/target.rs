//! What a fuzz target is: what the fuzzer and the tests of the crates share.

/// One thing that takes bytes from outside.
pub(crate) struct Target {
    /// Its name; also that of its program and of its corpus.
    pub(crate) name: &'static str,
    /// Gives it the bytes, panics where a property does not hold, and says whether they were taken
    /// for what they should be.
    pub(crate) run: fn(&[u8]) -> bool,
    /// How many changed copies of each input the tests try.
    pub(crate) mutants: u32,
}
