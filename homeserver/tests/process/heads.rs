//! Heads that are too large, on listeners without TLS.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::{PATIENCE, Place, code, errors, terminate};

fn ask(mut stream: impl std::io::Read + std::io::Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Goal: the admin socket and the listener for metrics refuse a head over the bounds as every other listener does, with
/// a problem; by a long address and by many headers, to the real command.
#[test]
fn heads_are_refused_with_a_problem() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let text = std::fs::read_to_string(place.path("entente.toml")).unwrap();
    let text: toml::Table = text.parse().unwrap();
    let metrics = text["listen"]["metrics"].as_str().unwrap().to_owned();
    let running = place.start();
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "x".repeat(20_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nconnection: close\r\n{}\r\n",
        "a: b\r\n".repeat(100)
    );
    for request in [&long, &many] {
        let socket = UnixStream::connect(place.path("admin.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let tcp = TcpStream::connect(&metrics).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        for answer in [ask(socket, request), ask(tcp, request)] {
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
            assert!(
                answer.contains("urn:entente:problem:head-too-large"),
                "{answer}"
            );
        }
    }
    let ended = terminate(running);
    assert_eq!(code(&ended), Some(0), "{}", errors(&ended));
}
