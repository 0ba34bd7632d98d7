use super::{run, spawn};
use std::sync::mpsc::channel;

#[test]
fn the_caller_gets_what_the_work_returns_and_its_panic() {
    let text = String::from("borrowed");
    assert_eq!(run("test", || text.len()).unwrap(), 8);
    let panic = std::panic::catch_unwind(|| run("test", || panic!("in the background")));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"in the background"));
}

#[cfg(target_os = "linux")]
#[test]
fn only_the_thread_of_the_work_steps_back() {
    use rustix::process::getpriority_process;
    let own = getpriority_process(None).unwrap();
    let stepped_back = own.max(super::NICE);
    assert_eq!(run("test", || getpriority_process(None).unwrap()).unwrap(), stepped_back);
    let (told, heard) = channel();
    let tell = move || told.send(getpriority_process(None).unwrap()).unwrap();
    spawn("test", tell).unwrap().join().unwrap();
    assert_eq!(heard.recv().unwrap(), stepped_back);
    assert_eq!(getpriority_process(None).unwrap(), own);
}
