//! The workloads, and how far ahead this project is to be.

use crate::figures::Library;

/// One workload, on the libraries that can run it.
pub struct Cell {
    pub name: &'static str,
    pub workload: Workload,
    /// How many times as many commits in a second this project's library is to make as each of
    /// these.
    others: Others,
    /// Most instructions of a commit.
    pub instructions: Option<Bound>,
}

/// What is run.
#[derive(Clone, Copy)]
pub enum Workload {
    Core { in_flight: u64 },
    Driver { writers: u64, batch: u64, workers: u64 },
}

/// What is asked of a figure.
#[derive(Clone, Copy)]
pub struct Bound {
    /// Nothing worse will do.
    pub required: f64,
    /// What it is to become.
    pub aim: f64,
}

impl Cell {
    /// This project's first.
    pub fn libraries(&self) -> impl Iterator<Item = Library> {
        let others = self.others.iter().map(|(library, _)| *library);
        std::iter::once(Library::RaftCore).chain(others)
    }

    /// How far ahead of `library` is to be reached.
    pub fn bound(&self, library: Library) -> Option<Bound> {
        let (_, bound) = self.others.iter().find(|(it, _)| *it == library)?;
        *bound
    }

    pub const fn is_core(&self) -> bool {
        matches!(self.workload, Workload::Core { .. })
    }

    /// What to call this program with, to run it once.
    pub fn arguments(&self, library: Library) -> Vec<String> {
        let library = library.to_string();
        match self.workload {
            Workload::Core { in_flight } => vec!["core".into(), library, in_flight.to_string()],
            Workload::Driver { writers, batch, workers } => vec![
                "driver".into(),
                library,
                writers.to_string(),
                format!("--batch={batch}"),
                format!("--workers={workers}"),
            ],
        }
    }
}

type Others = &'static [(Library, Option<Bound>)];

const CORES: Others = &[(Library::RaftRs, None), (Library::Omnipaxos, None)];
const CORES_1: Others =
    &[(Library::RaftRs, None), (Library::Omnipaxos, Some(Bound { required: 1.2, aim: 2.0 }))];
const CORES_1024: Others = &[
    (Library::RaftRs, Some(Bound { required: 3.0, aim: 6.0 })),
    (Library::Omnipaxos, Some(Bound { required: 1.25, aim: 2.5 })),
];
const DRIVERS: Others = &[(Library::Openraft09, None), (Library::Openraft10, None)];
const DRIVERS_1: Others = &both(Bound { required: 3.0, aim: 5.0 });
const DRIVERS_1024: Others = &both(Bound { required: 2.0, aim: 4.0 });
const DRIVERS_BATCHES: Others = &both(Bound { required: 4.0, aim: 8.0 });

/// Ahead of the better one is ahead of both.
const fn both(bound: Bound) -> [(Library, Option<Bound>); 2] {
    [(Library::Openraft09, Some(bound)), (Library::Openraft10, Some(bound))]
}

/// All of them.
pub fn all() -> Vec<Cell> {
    let instructions = Some(Bound { required: 1900.0, aim: 1100.0 });
    vec![
        core("core, 1 in flight", 1, CORES_1),
        core("core, 64 in flight", 64, CORES),
        Cell { instructions, ..core("core, 1024 in flight", 1024, CORES_1024) },
        driver("driver, 1 writer", 1, 1, DRIVERS_1),
        driver("driver, 64 writers", 64, 1, DRIVERS),
        driver("driver, 256 writers", 256, 1, DRIVERS),
        driver("driver, 1024 writers", 1024, 1, DRIVERS_1024),
        driver("driver, 256 writers of 64", 256, 64, DRIVERS_BATCHES),
    ]
}

const fn core(name: &'static str, in_flight: u64, others: Others) -> Cell {
    Cell { name, workload: Workload::Core { in_flight }, others, instructions: None }
}

const fn driver(name: &'static str, writers: u64, batch: u64, others: Others) -> Cell {
    let workload = Workload::Driver { writers, batch, workers: 2 };
    Cell { name, workload, others, instructions: None }
}
