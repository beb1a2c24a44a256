//! The connection to Relay: plaintext, TLS, or mutual TLS.
//!
//! Certificate files are read for each connection, so that a renewed certificate is used without a
//! restart. Messages are passed on as bytes: tonic ends the stream at a message that it cannot decode, whereas
//! the decoder only counts it.

use std::path::Path;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

use super::{RelayError, RelayPacing, RelayTarget, RelayTls};
use crate::limits;
use crate::signals::decode::relay::{
    GET_FLOWS, GetFlowsRequest, SERVER_STATUS, ServerStatusRequest, ServerStatusResponse,
};

/// Largest file of a certificate or key.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Connects to Relay.
pub(super) async fn connect(
    target: &RelayTarget,
    pacing: &RelayPacing,
) -> Result<Grpc<Channel>, RelayError> {
    let mut endpoint = endpoint(&target.url, pacing);
    if let Some(tls) = &target.tls {
        endpoint = endpoint
            .tls_config(read_tls(tls)?)
            .map_err(RelayError::Tls)?;
    }
    let channel = endpoint.connect().await.map_err(RelayError::Connect)?;
    Ok(Grpc::new(channel).max_decoding_message_size(limits::RELAY_MESSAGE_BYTES_MAX))
}

fn endpoint(url: &Uri, pacing: &RelayPacing) -> Endpoint {
    Channel::builder(url.clone())
        .connect_timeout(pacing.answer)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(pacing.keepalive)
        .keep_alive_timeout(pacing.keepalive_answer)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits::RELAY_WINDOW_BYTES)
        .initial_connection_window_size(limits::RELAY_WINDOW_BYTES)
}

fn read_tls(tls: &RelayTls) -> Result<ClientTlsConfig, RelayError> {
    let mut config =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read_pem(&tls.ca)?));
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(read_pem(certificate)?, read_pem(key)?));
    }
    Ok(config)
}

fn read_pem(path: &Path) -> Result<Vec<u8>, RelayError> {
    crate::signals::source::generation::read_bounded(path, PEM_BYTES_MAX).map_err(|source| {
        RelayError::ReadFile {
            path: path.to_owned(),
            source,
        }
    })
}

/// Requests flows, and waits until the response begins.
pub(super) async fn get_flows(
    relay: &mut Grpc<Channel>,
    request: &GetFlowsRequest,
) -> Result<Streaming<Bytes>, Status> {
    ready(relay).await?;
    let request = Request::new(request.encode_to_vec());
    let path = PathAndQuery::from_static(GET_FLOWS);
    let answer = relay.server_streaming(request, path, Raw).await?;
    Ok(answer.into_inner())
}

/// Requests the status of the nodes.
pub(super) async fn server_status(
    relay: &mut Grpc<Channel>,
    limit: Duration,
) -> Result<ServerStatusResponse, Status> {
    let late = |_| Status::deadline_exceeded("no answer in time");
    let answer = async {
        ready(relay).await?;
        let request = Request::new(ServerStatusRequest {}.encode_to_vec());
        let path = PathAndQuery::from_static(SERVER_STATUS);
        let bytes: Bytes = relay.unary(request, path, Raw).await?.into_inner();
        ServerStatusResponse::decode(bytes)
            .map_err(|_| Status::internal("the message cannot be decoded"))
    };
    tokio::time::timeout(limit, answer)
        .await
        .map_err(late)
        .flatten()
}

async fn ready(relay: &mut Grpc<Channel>) -> Result<(), Status> {
    let ready = relay.ready().await;
    ready.map_err(|error| Status::from_error(error.into()))
}

/// A codec that passes messages unchanged.
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
