mod mechanisms;
mod paper;
mod partitions;
mod scripts;
mod tidy;
