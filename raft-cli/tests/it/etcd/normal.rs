//! What cannot be alike in two clusters is called by a name that is: the ids of clusters, members
//! and leases, addresses, and what is measured - terms and indexes of the log, sizes, hashes, the
//! time a request took. Where an order follows from ids, lines are sorted. Revisions are compared
//! as they are.

use serde_json::Value;
use std::collections::BTreeMap;

/// The form of what `etcdctl` prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Simple,
    /// Of the verbs about members: lines or cells, in an order that follows from ids.
    Members,
    Fields,
    Json,
}

impl Format {
    pub(super) fn of(words: &[String]) -> Self {
        let written = words.iter().position(|word| word == "-w").map(|at| words[at + 1].as_str());
        let verb = words.iter().find(|word| {
            matches!(&***word, "member" | "endpoint" | "move-leader" | "alarm" | "defrag" | "lease")
        });
        match (written, verb) {
            (Some("json"), _) => Self::Json,
            (Some("fields"), _) => Self::Fields,
            (_, Some(_)) => Self::Members,
            _ => Self::Simple,
        }
    }
}

/// What things are called in one cluster.
#[derive(Default)]
pub(super) struct Names {
    cluster: u64,
    members: BTreeMap<u64, String>,
    /// Those that were granted, in order.
    pub(super) leases: Vec<i64>,
    peers: Vec<String>,
    /// Where clients and members reach a member that joins later.
    pub(super) joining: Option<[String; 2]>,
}

/// What is measured, in JSON and as fields.
const MEASURED: [&str; 14] = [
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "hash",
    "took",
    "RaftTerm",
    "RaftIndex",
    "RaftAppliedIndex",
    "DBSize",
    "Hash",
    "Took",
];

impl Names {
    /// Takes the members from what `member list -w json` says.
    pub(super) fn learn_members(&mut self, told: &Value) {
        self.cluster = told["header"]["cluster_id"].as_u64().unwrap();
        let mut peers = BTreeMap::new();
        for member in told["members"].as_array().unwrap() {
            let name = member["name"].as_str().unwrap().to_owned();
            let peer = member["peerURLs"][0].as_str().unwrap();
            let (_, peer) = peer.split_once("://").unwrap();
            peers.insert(name.clone(), peer.to_owned());
            self.members.insert(member["ID"].as_u64().unwrap(), name);
        }
        self.peers = peers.into_values().collect();
    }

    /// The address of a member among its own.
    pub(super) fn peer(&self, number: usize) -> &str {
        &self.peers[number - 1]
    }

    /// The ids of the members that are known, as `etcdctl` wants them, and their names.
    pub(super) fn ids(&self) -> impl Iterator<Item = (String, &str)> {
        self.members.iter().map(|(id, name)| (format!("{id:x}"), &**name))
    }

    /// Addresses have the same names on both sides. Only here do members prove to each other who
    /// they are, which their URLs tell.
    pub(super) fn addresses(&self, text: String, clients: &[String]) -> String {
        let mut text = text.replace("https://", "http://");
        for (what, addresses) in [("peer", &self.peers[..]), ("client", clients)] {
            for (number, address) in (1..).zip(addresses) {
                text = text.replace(address, &format!("<{what} {number}>"));
            }
        }
        if let Some([client, peer]) = &self.joining {
            text = text.replace(client, "<client that joins>").replace(peer, "<peer that joins>");
        }
        text
    }

    /// What was printed.
    pub(super) fn output(&mut self, text: &str, format: Format) -> String {
        self.learn_leases(text);
        self.learn_new_member(text);
        let lines = text.lines().map(|line| match format {
            Format::Json => match serde_json::from_str::<Value>(line) {
                Ok(value) => self.json("", value).to_string(),
                Err(_) => line.to_owned(),
            },
            Format::Fields => self.field(line),
            Format::Members => self.about_members(line),
            Format::Simple => self.words(line),
        });
        let mut lines: Vec<String> = lines.collect();
        match format {
            Format::Members => lines.sort(),
            // Of each member some lines, and one that is empty.
            Format::Fields => {
                let first = lines.iter().position(|line| line.starts_with("\"ID\" :"));
                let members = lines.split_off(first.unwrap_or(lines.len()));
                let mut members: Vec<&[String]> = members.split(String::is_empty).collect();
                members.sort();
                lines.extend(members.concat());
            }
            Format::Simple | Format::Json => {}
        }
        lines.into_iter().map(|line| line + "\n").collect()
    }

    /// The client's own log is left out, except for the error in it.
    pub(super) fn errors(&self, text: &str, format: Format) -> String {
        let mut errors = Vec::new();
        // A panic of the client's names what it was called with.
        let text = text.split("\ngoroutine").next().unwrap_or(text);
        for line in text.lines() {
            let logged = serde_json::from_str::<Value>(line).ok();
            let line = match logged {
                Some(logged) => match logged["error"].as_str() {
                    Some(error) => format!("logged: {error}"),
                    None => continue,
                },
                None => self.about_members(line),
            };
            errors.push(line + "\n");
        }
        // What is said of several members is said as they answer.
        if matches!(format, Format::Members) {
            errors.sort();
        }
        errors.concat()
    }

    /// A member that is added has no name yet; here it is called by its number.
    fn learn_new_member(&mut self, text: &str) {
        let added = text.split_once(" added to cluster ").map(|(said, _)| said);
        let id = added.and_then(|said| said.split_whitespace().last());
        if let Some(id) = id.and_then(|id| u64::from_str_radix(id, 16).ok()) {
            self.members.insert(id, format!("n{}", self.members.len() + 1));
        }
    }

    fn learn_leases(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((id, _)) =
                line.strip_prefix("lease ").and_then(|rest| rest.split_once(" granted"))
            {
                self.leases.push(i64::from_str_radix(id, 16).unwrap());
            }
        }
    }

    fn id(&self, id: u64) -> Option<String> {
        if id == self.cluster {
            return Some("<cluster>".into());
        }
        if let Some(name) = self.members.get(&id) {
            return Some(format!("<{name}>"));
        }
        self.lease(id)
    }

    fn lease(&self, id: u64) -> Option<String> {
        let known = self.leases.iter().position(|lease| u64::try_from(*lease) == Ok(id))?;
        Some(format!("<lease {}>", known + 1))
    }

    /// Leases in running text.
    fn words(&self, line: &str) -> String {
        let mut text = String::new();
        for part in line.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
            let word = part.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
            let named = match u64::from_str_radix(word, 16) {
                Ok(id) if word.len() >= 4 => self.lease(id),
                _ => None,
            };
            match named {
                Some(named) => text.push_str(&(named + &part[word.len()..])),
                None => text.push_str(part),
            }
        }
        text
    }

    /// Ids in what is said of members, and what is measured there.
    fn about_members(&self, line: &str) -> String {
        if line.starts_with('+') && line.ends_with('+') {
            return "+".into();
        }
        if let Some(cells) = line.strip_prefix('|') {
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            return self.cells(&cells[..cells.len() - 1]);
        }
        if let Some((said, rest)) = line.split_once("remaining(") {
            let (_, keys) = rest.split_once(')').unwrap_or_default();
            return format!("{}remaining(<measured>){keys}", self.words(said));
        }
        if line.contains(", ") {
            return self.cells(&line.split(", ").collect::<Vec<_>>());
        }
        if let Some((said, _)) = line.split_once(" took = ") {
            return format!("{said} took = <measured>");
        }
        if let Some(members) = line.strip_prefix("ETCD_INITIAL_CLUSTER=") {
            let mut members: Vec<&str> = members.trim_matches('"').split(',').collect();
            members.sort_unstable();
            return members.join(",");
        }
        let mut before = "";
        let mut words = Vec::new();
        // An id that is short is filled up.
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let told = matches!(before, "Member" | "cluster" | "from" | "to");
            let id = u64::from_str_radix(word, 16).ok().filter(|_| told);
            words.push(id.and_then(|id| self.id(id)).unwrap_or_else(|| self.words(word)));
            before = word;
        }
        words.join(" ")
    }

    /// The cells of a line about a member: of `endpoint status` ten, of `endpoint hashkv` two.
    fn cells(&self, cells: &[&str]) -> String {
        let measured: &[usize] = match cells.len() {
            2 => &[1],
            4 => &[2],
            8.. => &[3, 6, 7, 8],
            _ => &[],
        };
        let cell = |(number, cell): (usize, &&str)| {
            let header = cell.chars().all(|letter| letter.is_uppercase() || letter == ' ');
            if measured.contains(&number) && !header {
                return "<measured>".into();
            }
            let id = u64::from_str_radix(cell, 16).ok().filter(|_| number < 2);
            id.and_then(|id| self.id(id)).unwrap_or_else(|| (*cell).to_owned())
        };
        cells.iter().enumerate().map(cell).collect::<Vec<_>>().join(", ")
    }

    fn field(&mut self, line: &str) -> String {
        let Some((name, value)) = line.split_once(" : ") else { return line.to_owned() };
        let bare = name.trim_matches('"');
        if MEASURED.contains(&bare) || (bare == "TTL" && value != "-1") {
            return format!("{name} : <measured>");
        }
        let Ok(number) = value.parse() else { return line.to_owned() };
        let named = match bare {
            "ClusterID" | "Leader" => self.id(number),
            "MemberID" => self.members.get(&number).map(|_| "<a member>".into()),
            "ID" => {
                if self.id(number).is_none() {
                    self.leases.push(number.cast_signed());
                }
                self.id(number)
            }
            _ if bare.contains("Lease") => self.lease(number),
            _ => None,
        };
        named.map_or_else(|| line.to_owned(), |named| format!("{name} : {named}"))
    }

    fn json(&mut self, name: &str, value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let granted = fields.contains_key("TTL") && fields.contains_key("Error");
                if let Some(id) = fields.get("ID").and_then(Value::as_i64).filter(|_| granted) {
                    self.leases.push(id);
                }
                let of_member = matches!(name, "members" | "member");
                let field = |(name, value): (String, Value)| {
                    let value = match &*name {
                        "ID" if of_member => self.json("member", value),
                        _ => self.json(&name, value),
                    };
                    (name, value)
                };
                Value::Object(fields.into_iter().map(field).collect())
            }
            Value::Array(values) => {
                let mut values: Vec<Value> =
                    values.into_iter().map(|value| self.json(name, value)).collect();
                // An order that follows from ids.
                if matches!(name, "members" | "leases" | "") {
                    values.sort_by_key(ToString::to_string);
                }
                Value::Array(values)
            }
            // What is left of a lease; that there is none is no measure.
            Value::Number(number) if name == "ttl" && number.as_i64() > Some(0) => {
                Value::from("<measured>")
            }
            _ if MEASURED.contains(&name) => Value::from("<measured>"),
            Value::Number(number) => {
                let named = number.as_u64().and_then(|id| match name {
                    "cluster_id" | "member" | "leader" => self.id(id),
                    // Whichever the client happened to ask.
                    "member_id" => self.members.get(&id).map(|_| "<a member>".into()),
                    "ID" | "id" | "lease" => self.lease(id),
                    _ => None,
                });
                named.map_or(Value::Number(number), Value::from)
            }
            value => value,
        }
    }
}
