//! Questions to one member: in JSON over HTTP by etcd's API, or by ZooKeeper's protocol.

use super::Kind;
use crate::Fallible;
use crate::zookeeper::{self, Request, Session};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The key that is asked for, in base64 and as ZooKeeper has it.
const KEY: &str = "cHJvYmU=";
const NODE: &str = "/probe";

/// What a member says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Whether it leads.
    pub leads: bool,
    /// Whether it knows a leader, itself or another.
    pub has_leader: bool,
    /// Its term, or what ZooKeeper calls the epoch: it grows with every election.
    pub term: u64,
}

impl Status {
    /// Whether it serves clients.
    pub const fn is_healthy(self) -> bool {
        self.has_leader
    }
}

/// Asks a member for it.
///
/// # Errors
/// If it does not answer in time, or not as it should.
pub fn status(kind: Kind, address: &str, patience: Duration) -> Fallible<Status> {
    if kind == Kind::ZooKeeper {
        return zookeeper_status(address, patience);
    }
    let answer = ask(address, "/v3/maintenance/status", &json!({}), patience)?;
    let number = |value: &Value| value.as_str().and_then(|it| it.parse().ok()).unwrap_or(0);
    let leader: u64 = number(&answer["leader"]);
    let term = number(&answer["raftTerm"]);
    let leads = leader != 0 && leader == number(&answer["header"]["member_id"]);
    Ok(Status { leads, has_leader: leader != 0, term })
}

fn zookeeper_status(address: &str, patience: Duration) -> Fallible<Status> {
    let mut stream = connect(address, patience)?;
    stream.write_all(b"srvr")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let field = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name));
    let mode = field("Mode: ").ok_or("it does not serve")?;
    let id = field("Zxid: 0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let term = id.ok_or("it tells no Zxid")? >> 32;
    Ok(Status { leads: mode == "leader", has_leader: true, term })
}

/// Writes to a member, once, on a connection of its own.
///
/// # Errors
/// If it does not say in time that this was done.
pub fn put(kind: Kind, address: &str, patience: Duration) -> Fallible<()> {
    if kind == Kind::ZooKeeper {
        let mut session = Session::connect(address, patience)?;
        return match session.ask(Request::Set(NODE, b"value"))? {
            zookeeper::NO_NODE => zookeeper::done(session.ask(Request::Create(NODE, b"value"))?),
            code => zookeeper::done(code),
        };
    }
    let answer = ask(address, "/v3/kv/put", &json!({ "key": KEY, "value": KEY }), patience)?;
    match answer["header"]["revision"].is_string() {
        true => Ok(()),
        false => Err(format!("not written: {answer}").into()),
    }
}

/// Reads from a member, linearizably.
///
/// # Errors
/// If it does not answer in time.
pub fn linearizable_read(kind: Kind, address: &str, patience: Duration) -> Fallible<()> {
    if kind == Kind::ZooKeeper {
        let mut session = Session::connect(address, patience)?;
        zookeeper::done(session.ask(Request::Sync(NODE))?)?;
        return match session.ask(Request::Get(NODE))? {
            zookeeper::NO_NODE => Ok(()),
            code => zookeeper::done(code),
        };
    }
    let answer = ask(address, "/v3/kv/range", &json!({ "key": KEY }), patience)?;
    match answer["header"]["revision"].is_string() {
        true => Ok(()),
        false => Err(format!("not read: {answer}").into()),
    }
}

/// How many keys a member has, which speaks etcd's API.
///
/// # Errors
/// If it does not answer.
pub fn keys_of(address: &str) -> Fallible<u64> {
    // From the first key to the last one.
    let all =
        json!({ "key": "AA==", "range_end": "AA==", "count_only": true, "serializable": true });
    let answer = ask(address, "/v3/kv/range", &all, super::PATIENCE)?;
    Ok(answer["count"].as_str().unwrap_or("0").parse()?)
}

/// Asks by etcd's API in JSON. HTTP 1.0 has an answer end with the connection.
pub(super) fn ask(address: &str, path: &str, body: &Value, patience: Duration) -> Fallible<Value> {
    let mut stream = connect(address, patience)?;
    let body = body.to_string();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(serde_json::from_str(body)?)
}

fn connect(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
