use super::*;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use raft_kv::etcd::proto::etcdserverpb::{PutRequest, PutResponse, ResponseHeader};
use tokio::net::{TcpListener, TcpStream};

async fn connect() -> (TcpListener, TcpStream, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let target = Target {
        endpoints: vec![endpoint.clone()],
        ca: None,
        identity: None,
        user: None,
        password_file: None,
        deadline: None,
    };
    let open = async { Connection::open(&endpoint, &target).await.unwrap() };
    let (connection, accepted) = tokio::join!(open, listener.accept());
    (listener, accepted.unwrap().0, connection)
}

async fn put(connection: &Connection) -> Result<PutResponse, Failure> {
    connection.call(Method::Put, &PutRequest::default()).await
}

#[tokio::test]
async fn a_connection_that_has_broken_is_made_anew() {
    let (listener, first, connection) = connect().await;
    drop(first);
    loop {
        tokio::select! {
            biased;
            _ = listener.accept() => return,
            refused = put(&connection) => drop(refused.unwrap_err()),
        }
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_ends() {
    let (_listener, _first, connection) = connect().await;
    tokio::time::pause();
    let refused = put(&connection).await;
    assert_eq!(refused.unwrap_err().kind, Kind::Unknown);
}

/// What comes of an answer of these parts, then of trailers with this status.
async fn answered(parts: Vec<Bytes>, status: &'static str) -> Result<PutResponse, Failure> {
    let (_listener, stream, connection) = connect().await;
    let serving = async move {
        let mut server = h2::server::handshake(stream).await.unwrap();
        while let Some(request) = server.accept().await {
            let (_, answer) = request.unwrap();
            answer_by(answer, &parts, status);
        }
    };
    tokio::select! {
        reply = put(&connection) => reply,
        () = serving => panic!("the client has gone"),
    }
}

fn answer_by(mut answer: SendResponse<Bytes>, parts: &[Bytes], status: &'static str) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", "of%20its own".parse().unwrap());
    let mut head = Response::new(());
    if parts.is_empty() {
        *head.headers_mut() = trailers;
        answer.send_response(head, true).unwrap();
        return;
    }
    let mut body = answer.send_response(head, false).unwrap();
    for part in parts {
        body.send_data(part.clone(), false).unwrap();
    }
    body.send_trailers(trailers).unwrap();
}

fn reply() -> PutResponse {
    let header = ResponseHeader { revision: 7, ..ResponseHeader::default() };
    PutResponse { header: Some(header), prev_kv: None }
}

#[tokio::test]
async fn an_answer_may_come_in_parts() {
    let whole = messages::encode(&reply());
    assert_eq!(answered(vec![whole.clone()], "0").await.unwrap(), reply());
    let parts = (0..whole.len()).map(|at| whole.slice(at..=at)).collect();
    assert_eq!(answered(parts, "0").await.unwrap(), reply());
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    let kind = async |parts, status| answered(parts, status).await.unwrap_err().kind;
    assert_eq!(kind(vec![], "14").await, Kind::Unavailable);
    assert_eq!(kind(vec![messages::encode(&reply())], "2").await, Kind::Unknown);
    let refused = answered(vec![], "3").await.unwrap_err();
    assert_eq!((refused.kind, refused.message.as_str()), (Kind::Refused, "of its own"));
}

#[tokio::test]
async fn what_makes_no_sense_is_told() {
    let whole = messages::encode(&reply());
    let mut compressed = BytesMut::from(&whole[..]);
    compressed[0] = 1;
    let twice = vec![whole.clone(), whole.clone()];
    let half = vec![whole.slice(..whole.len() - 1)];
    for parts in [vec![compressed.freeze()], twice, half, vec![Bytes::new()]] {
        let error = answered(parts, "0").await.unwrap_err();
        assert!(error.message.contains("makes no sense"), "{error:?}");
    }
}

#[test]
fn methods_are_found_by_their_number() {
    for (number, method) in Method::ALL.into_iter().enumerate() {
        assert_eq!(method as usize, number, "{method:?}");
    }
}

/// Until the last stream has ended such a connection is there, but takes nothing new.
#[tokio::test]
async fn a_connection_that_is_about_to_end_is_made_anew() {
    let (listener, first, connection) = connect().await;
    let mut first = h2::server::handshake(first).await.unwrap();
    let watch = PutRequest::default();
    let watching = connection.stream::<PutResponse>(Method::Watch, &watch);
    let serving = async {
        let (_, mut answer) = first.accept().await.unwrap().unwrap();
        let _body = answer.send_response(Response::new(()), false).unwrap();
        first.graceful_shutdown();
        while first.accept().await.is_some() {}
        unreachable!("the stream has not ended");
    };
    let anew = async {
        let _watching = watching.await.unwrap();
        loop {
            tokio::select! {
                biased;
                _ = listener.accept() => return,
                refused = put(&connection) => drop(refused.unwrap_err()),
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = anew => {}
    }
}
