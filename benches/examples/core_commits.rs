//! Commits on three cores, on one thread and without criterion around it, so that a tool that
//! counts instructions sees nothing else. The difference of two runs leaves the start out:
//!
//! ```text
//! cargo build --release -p benches --example core_commits
//! valgrind --tool=callgrind target/release/examples/core_commits 1024 20
//! valgrind --tool=callgrind target/release/examples/core_commits 1024 40
//! ```

use benches::Cores;
use bytes::Bytes;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(in_flight)), Some(Ok(rounds))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: core_commits IN_FLIGHT ROUNDS");
        std::process::exit(2);
    };
    let in_flight = in_flight.clamp(1, 64 * 1024);
    let mut cores = Cores::new(3);
    for round in 0..rounds {
        cores.commit((0..in_flight).map(|_| Bytes::from(vec![7; 256])).collect::<Vec<_>>());
        if round % (64 * 1024 / in_flight) == 0 {
            cores.compact();
        }
    }
}
