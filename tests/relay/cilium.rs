//! Cilium's own definitions of its messages (`proto/`, see the README there), read by a compiler
//! that knows nothing of ours.

use std::path::Path;
use std::sync::LazyLock;

use prost_reflect::prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, MessageDescriptor, ReflectMessage,
};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay/proto");
    let files = protox::compile(["observer/observer.proto"], [folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
});

pub fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).unwrap()
}

pub fn enumeration(name: &str) -> EnumDescriptor {
    POOL.get_enum_by_name(name).unwrap()
}

/// The message on the wire that Relay sends for what an exporter wrote as this line.
pub fn encode(line: &str) -> Vec<u8> {
    parse(line).encode_to_vec()
}

pub fn parse(line: &str) -> DynamicMessage {
    let mut json = serde_json::Deserializer::from_str(line);
    let response = message("observer.GetFlowsResponse");
    DynamicMessage::deserialize(response, &mut json).unwrap_or_else(|error| {
        panic!("{error}: {line}");
    })
}

/// What is left of a flow when a node keeps only these fields, as Hubble does it: a part of a field
/// that is absent makes an empty one.
pub fn mask(response: &DynamicMessage, paths: &[String]) -> DynamicMessage {
    let flow_field = response.descriptor().get_field_by_name("flow").unwrap();
    let mut masked = response.clone();
    if !response.has_field(&flow_field) {
        return masked;
    }
    let flow = response.get_field(&flow_field);
    let flow = flow.as_message().unwrap();
    let mut kept = DynamicMessage::new(flow.descriptor());
    for path in paths {
        let (name, part) = path
            .split_once('.')
            .map_or((path.as_str(), None), |(n, p)| (n, Some(p)));
        let field = flow.descriptor().get_field_by_name(name).unwrap();
        let Some(part) = part else {
            if flow.has_field(&field) {
                kept.set_field(&field, flow.get_field(&field).into_owned());
            }
            continue;
        };
        let source = flow.get_field(&field);
        let source = source.as_message().unwrap();
        let part = source.descriptor().get_field_by_name(part).unwrap();
        let target = kept.get_field_mut(&field).as_message_mut().unwrap();
        if source.has_field(&part) {
            target.set_field(&part, source.get_field(&part).into_owned());
        }
    }
    masked.set_field(&flow_field, prost_reflect::Value::Message(kept));
    masked
}
