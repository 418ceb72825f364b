//! HTTP as bytes on a socket: for what a well-behaved client would never send, or would hide.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far more than any answer takes on a busy machine, and more than any timer that a test waits for.
const PATIENCE: Duration = Duration::from_secs(100);

/// A connection whose bytes are ours.
pub struct RawClient<S = TcpStream> {
    stream: BufReader<S>,
}

/// An answer as it came.
#[derive(Debug)]
pub struct RawResponse {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer encoding.
    pub body: Vec<u8>,
}

impl RawClient {
    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    /// Talks on a stream that is open already.
    pub fn on(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends bytes that the server may no longer want.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Asks for `path` and returns the answer.
    pub async fn get(&mut self, path: &str) -> RawResponse {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        self.response().await
    }

    /// Reads one answer; fails the test when it breaks off.
    pub async fn response(&mut self) -> RawResponse {
        let (status, headers) = self.head().await;
        let body = self.body(&headers).await;
        RawResponse { status, headers, body }
    }

    /// Reads the head of an answer.
    pub async fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let status_line = self.line().await;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => return (status, headers),
            }
        }
    }

    async fn body(&mut self, headers: &[(String, String)]) -> Vec<u8> {
        let find = |wanted| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let mut body = Vec::new();
        if let Some(length) = find("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.fill(&mut body).await;
        } else if find("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line().await, 16).unwrap();
                let mut chunk = vec![0; size + 2];
                self.fill(&mut chunk).await;
                body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        }
        body
    }

    /// Waits until the server closes the connection, and returns what came before that.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut rest))
            .await
            .expect("the server closes the connection");
        rest
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("an answer comes").unwrap();
        assert!(line.ends_with('\n'), "the answer breaks off: {line:?}");
        line.trim_end().to_owned()
    }

    async fn fill(&mut self, buffer: &mut [u8]) {
        timeout(PATIENCE, self.stream.read_exact(buffer))
            .await
            .expect("the body comes")
            .expect("the body is whole");
    }
}

impl RawResponse {
    /// Returns the value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
