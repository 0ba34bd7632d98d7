//! The client against a server that answers what it is told to.

use super::wire::{NO_NODE, NODE_EXISTS, Request, Session, done};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

/// Reads one message.
fn message(stream: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// An answer to request `number`, with an error's number and more behind it.
fn answer(number: i32, code: i32, more: &[u8]) -> Vec<u8> {
    let mut bytes = ((16 + more.len()) as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&7i64.to_be_bytes());
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(more);
    bytes
}

#[test]
fn requests_are_sent_together_and_answered_in_order() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Version, last change, timeout, session, password with its length, read-only.
        assert_eq!(message(&mut stream).len(), 4 + 8 + 4 + 8 + 20 + 1);
        stream.write_all(&[&[0, 0, 0, 36][..], &[1; 36]].concat()).unwrap();
        let set = message(&mut stream);
        let expected = [
            &[0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 2][..],
            b"/a",
            &[0, 0, 0, 3],
            b"new",
            // Whatever its version.
            &[255; 4],
        ];
        assert_eq!(set, expected.concat());
        assert_eq!(message(&mut stream), [0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 2, b'/', b'b']);
        let get = [0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 2, b'/', b'c', 0];
        assert_eq!(message(&mut stream), get);
        let answers = [answer(1, 0, &[9; 68]), answer(2, 0, b"path"), answer(3, NO_NODE, &[])];
        stream.write_all(&answers.concat()).unwrap();
    });
    let mut session = Session::connect(&address, Duration::from_secs(60)).unwrap();
    assert!(!session.has_answer());
    session.push(Request::Set("/a", b"new"));
    session.push(Request::Sync("/b"));
    session.push(Request::Get("/c"));
    session.flush().unwrap();
    let codes = [0; 3].map(|_| session.answer().unwrap());
    assert_eq!(codes, [0, 0, NO_NODE]);
    assert!(done(NODE_EXISTS).is_err());
    server.join().unwrap();
    // Who is gone does not answer.
    assert!(session.ask(Request::Get("/c")).is_err());
}
