use super::{NICE, run, spawn};
use rustix::process::getpriority_process;
use std::sync::mpsc::channel;

#[test]
fn only_the_thread_of_the_work_steps_back() {
    let own = getpriority_process(None).unwrap();
    let (told, heard) = channel();
    let tell = move || told.send(getpriority_process(None).unwrap()).unwrap();
    spawn("test", tell).unwrap().join().unwrap();
    assert_eq!(heard.recv().unwrap(), own.max(NICE));
    assert_eq!(run("test", || getpriority_process(None).unwrap()).unwrap(), own.max(NICE));
    assert_eq!(getpriority_process(None).unwrap(), own);
}
