//! A client of HTTP/1.1 that keeps its connections, and knows no more than it needs.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Instant;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Gets the pages of these users over so many connections. Gives the seconds that it took, and the microseconds of
/// each page.
pub(super) async fn visit(addr: SocketAddr, users: &[i64], connections: usize) -> (f64, Vec<f64>) {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(addr).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        streams.push(stream);
    }
    let next = Cell::new(0);
    let began = Instant::now();
    let visits = streams.into_iter().map(|mut stream| {
        let next = &next;
        async move {
            let mut latencies = Vec::new();
            let mut buffer = Vec::with_capacity(16 << 10);
            while let Some(user) = users.get(next.replace(next.get() + 1)) {
                let began = Instant::now();
                page(&mut stream, &mut buffer, *user).await;
                latencies.push(began.elapsed().as_secs_f64() * 1e6);
            }
            latencies
        }
    });
    let latencies = join_all(visits).await.into_iter().flatten().collect();
    (began.elapsed().as_secs_f64(), latencies)
}

async fn page(stream: &mut TcpStream, buffer: &mut Vec<u8>, user: i64) {
    let request = format!("GET /{user} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a server");
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.expect("a server") > 0, "the server hung up");
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).expect("a length");
        if buffer.len() >= end + 4 + length {
            return;
        }
    }
}
