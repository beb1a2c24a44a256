//! A relay for tests: a real gRPC server that keeps flows as Hubble does, sends them since a time,
//! and follows. It knows nothing of our messages but the request; what it sends are bytes. It can be
//! killed and started again on its port.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::{ServerTlsConfig, TcpIncoming};
use tonic::{Request, Response, Status};
use yellowjack::testing::signals::decode::relay::{
    GET_FLOWS, GetFlowsRequest, SERVER_STATUS, ServerStatusResponse, Timestamp,
};

/// What the server has.
#[derive(Debug)]
pub struct State {
    inner: Mutex<Inner>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Event>,
    requests: Vec<GetFlowsRequest>,
    greeting: Vec<Vec<u8>>,
    status: ServerStatusResponse,
    refuses_masks: bool,
    sent: usize,
}

#[derive(Clone, Debug)]
struct Event {
    /// A flow's time, in nanoseconds; what has none is sent to streams that are open, and not kept.
    time_ns: Option<i64>,
    what: Result<Vec<u8>, Status>,
}

impl State {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            count: watch::Sender::new(0),
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, event: Event) {
        let count = self.with(|inner| {
            inner.events.push(event);
            inner.events.len()
        });
        self.count.send_replace(count);
    }

    /// A flow, kept by its node.
    pub fn flow(&self, time_ns: i64, message: Vec<u8>) {
        self.push(Event {
            time_ns: Some(time_ns),
            what: Ok(message),
        });
    }

    /// Anything else, for streams that are open.
    pub fn say(&self, message: Vec<u8>) {
        self.push(Event {
            time_ns: None,
            what: Ok(message),
        });
    }

    /// Ends the open streams with this.
    pub fn fail(&self, status: Status) {
        self.push(Event {
            time_ns: None,
            what: Err(status),
        });
    }

    /// What each stream begins with.
    pub fn greet(&self, message: Vec<u8>) {
        self.with(|inner| inner.greeting.push(message));
    }

    /// The nodes' buffers are full of something else.
    pub fn forget_flows(&self) {
        self.with(|inner| {
            for event in &mut inner.events {
                event.time_ns = None;
            }
        });
    }

    pub fn set_status(&self, status: ServerStatusResponse) {
        self.with(|inner| inner.status = status);
    }

    pub fn refuse_masks(&self) {
        self.with(|inner| inner.refuses_masks = true);
    }

    /// What was asked for so far.
    pub fn requests(&self) -> Vec<GetFlowsRequest> {
        self.with(|inner| inner.requests.clone())
    }

    /// Messages that went out, over all streams.
    pub fn sent(&self) -> usize {
        self.with(|inner| inner.sent)
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Relay {
    pub state: Arc<State>,
    pub address: SocketAddr,
    tls: Option<ServerTlsConfig>,
    runtime: Option<Runtime>,
}

impl Relay {
    pub fn start(state: Arc<State>, tls: Option<ServerTlsConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut relay = Self {
            state,
            address: listener.local_addr().unwrap(),
            tls,
            runtime: None,
        };
        relay.serve(listener);
        relay
    }

    /// As `SIGKILL` does it: connections end in the middle of a word.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Comes back on the same port, which the killed one may have for another moment.
    pub fn restart(&mut self) {
        let bound = (0..1_000_000).find_map(|_| {
            std::thread::yield_now();
            TcpListener::bind(self.address).ok()
        });
        self.serve(bound.unwrap());
    }

    fn serve(&mut self, listener: TcpListener) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let (observer, tls) = (Observer(Arc::clone(&self.state)), self.tls.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut server = Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).unwrap();
            }
            let incoming = TcpIncoming::from(listener);
            server.serve_with_incoming(observer, incoming).await
        });
        self.runtime = Some(runtime);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Clone, Debug)]
struct Observer(Arc<State>);

impl Service<http::Request<Body>> for Observer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let observer = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw);
            Ok(match request.uri().path() {
                GET_FLOWS => grpc.server_streaming(observer, request).await,
                SERVER_STATUS => grpc.unary(observer, request).await,
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

impl UnaryService<Bytes> for Observer {
    type Response = Vec<u8>;
    type Future = BoxFuture<'static, Result<Response<Vec<u8>>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let status = self.0.with(|inner| inner.status.encode_to_vec());
        Box::pin(async move { Ok(Response::new(status)) })
    }
}

impl ServerStreamingService<Bytes> for Observer {
    type Response = Vec<u8>;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let request = GetFlowsRequest::decode(request.into_inner())
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let since = request.since;
            let has_mask = request.field_mask.is_some();
            let (refuses, greeting, next) = state.with(|inner| {
                inner.requests.push(request);
                let greeting = inner.greeting.clone();
                (inner.refuses_masks, greeting, inner.events.len())
            });
            if refuses && has_mask {
                return Err(Status::unknown("invalid fieldmask"));
            }
            let cursor = Cursor {
                changes: state.count.subscribe(),
                state,
                since_ns: since.map_or(i64::MIN, Timestamp::as_nanos),
                opened_at: next,
                next: 0,
                greeting: greeting.into(),
            };
            let stream = stream::unfold(cursor, Cursor::step);
            Ok(Response::new(Box::pin(stream) as Self::ResponseStream))
        })
    }
}

struct Cursor {
    state: Arc<State>,
    changes: watch::Receiver<usize>,
    since_ns: i64,
    opened_at: usize,
    next: usize,
    greeting: VecDeque<Vec<u8>>,
}

impl Cursor {
    async fn step(mut self) -> Option<(Result<Vec<u8>, Status>, Self)> {
        if let Some(message) = self.greeting.pop_front() {
            return Some((Ok(message), self));
        }
        loop {
            let event = self
                .state
                .with(|inner| inner.events.get(self.next).cloned());
            let Some(event) = event else {
                self.changes.changed().await.ok()?;
                continue;
            };
            let place = self.next;
            self.next += 1;
            let is_wanted = match event.time_ns {
                Some(time_ns) => time_ns >= self.since_ns,
                None => place >= self.opened_at,
            };
            if is_wanted {
                self.state.with(|inner| inner.sent += 1);
                return Some((event.what, self));
            }
        }
    }
}

/// Passes messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
