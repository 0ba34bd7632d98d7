//! The second driver of the fuzz targets: a short run in the tests that is the same every time. It
//! gives each target its corpus and changed copies of it.

use super::target::Target;
use std::fs;
use std::path::PathBuf;

/// Numbers that tend to be treated apart.
const EDGES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, b'\n'];

/// Longest piece that a change repeats or takes out, in bytes.
const PIECE_BYTES_MAX: u64 = 16;

/// Runs every target; each takes at least half of what is in its corpus, or that has rotted.
pub(crate) fn replay(targets: &[Target], run: impl Fn(&Target, &[u8]) -> bool) {
    let run = |target: &Target, input: &[u8]| {
        let failing = Failing { target: target.name, input };
        let taken = run(target, input);
        std::mem::forget(failing);
        taken
    };
    for target in targets {
        let corpus = corpus(target.name);
        let taken = corpus.iter().filter(|input| run(target, input)).count();
        let (name, files) = (target.name, corpus.len());
        assert!(files > 0 && taken * 2 >= files, "{name} takes {taken} of {files} inputs");
        let mut random = Random(0);
        let mut mutants = 0;
        let each = target.mutants * rounds();
        for input in &corpus {
            for _ in 0..each {
                let other = &corpus[random.below(files as u64) as usize];
                mutants += usize::from(run(target, &changed(input, other, &mut random)));
            }
        }
        let tried = files * each as usize;
        println!("{name}: {files} inputs and {mutants} of {tried} mutants are taken");
    }
}

/// How many times as many changed copies as usual.
fn rounds() -> u32 {
    if std::env::var("RUN_SLOW_TESTS").is_ok_and(|value| value == "1") { 100 } else { 1 }
}

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = folder(target);
    let listed = fs::read_dir(&folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("a name").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a readable input")).collect()
}

/// Shows the input if the target panics.
struct Failing<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        eprintln!("{} fails for b\"{}\"", self.target, self.input.escape_ascii());
    }
}

/// `input` with one to four changes, some of them pieces of `other`.
fn changed(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let length = 1 + random.below(PIECE_BYTES_MAX) as usize;
        let end = bytes.len().min(at + length);
        match random.below(7) {
            0 if at < end => bytes[at] ^= 1 << random.below(8),
            1 if at < end => bytes[at] = EDGES[random.below(EDGES.len() as u64) as usize],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            5 => bytes.insert(at, random.below(256) as u8),
            _ => {
                let from = random.below(other.len() as u64 + 1) as usize;
                let piece = &other[from..other.len().min(from + length)];
                drop(bytes.splice(at..end, piece.iter().copied()));
            }
        }
    }
    bytes
}

/// A splitmix generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Checks that a target takes `seeds`, made of real values. With UPDATE_GOLDENFILES=1 they become
/// its corpus, in place of what was made so before.
pub(crate) fn plant(target: &Target, seeds: impl IntoIterator<Item = Vec<u8>>) {
    let folder = folder(target.name);
    let update = std::env::var("UPDATE_GOLDENFILES").is_ok_and(|value| value == "1");
    for (number, seed) in seeds.into_iter().enumerate() {
        let name = target.name;
        assert!((target.run)(&seed), "{name} refuses seed {number}: {}", seed.escape_ascii());
        if update {
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(format!("{number:02}")), seed).expect("room on disk");
        }
    }
}
