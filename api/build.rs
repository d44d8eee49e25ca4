//! Compiles the protobuf definitions, without protoc, and derives the proto3 JSON mapping from their descriptors.
//!
//! The mapping is made of serde attributes rather than of generated impls (pbjson): replies then show a count of 0,
//! timestamps end in `Z`, error details have their `@type`, and a wrong request is answered with what is allowed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use tonic_prost_build::Builder;

const API: &str = ".tallyman.v1";
const CODEC: &str = "crate::codec::SmallBuffers";
const DERIVE: &str = "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(default, rename_all = \"camelCase\")]";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["tallyman/v1/counter.proto", "google/rpc/error_details.proto"], ["proto"])?;

    let mut builder = tonic_prost_build::configure()
        // Or else prost-types would stand for all of them; Timestamp and Duration are ours, for their JSON form.
        .compile_well_known_types(true)
        .extern_path(".google.protobuf.Timestamp", "crate::time::Timestamp")
        .extern_path(".google.protobuf.Duration", "crate::time::Duration")
        .extern_path(".google.protobuf.Any", "::prost_types::Any")
        // The encoded details of an error do not depend on a hasher's seed.
        .btree_map(".google.rpc")
        .codec_path(CODEC)
        .build_transport(false);
    for file in &descriptors.file {
        if matches!(file.package(), "tallyman.v1" | "google.rpc") {
            for message in &file.message_type {
                let scope = format!(".{}", file.package());
                builder = type_mapping(builder, &scope, message);
                builder = field_mapping(builder, &scope, message);
            }
        }
    }
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    builder.compile_fds(descriptors)?;
    // Between our own processes; no JSON, and nothing that reflection should show.
    let internal = protox::compile(["tallyman/rollup/v1/rollup.proto"], ["proto"])?;
    tonic_prost_build::configure().codec_path(CODEC).build_transport(false).compile_fds(internal)?;
    Ok(())
}

/// Gives a message's type its serde attributes, and those nested in it with it: prost matches paths by prefix.
fn type_mapping(builder: Builder, scope: &str, message: &DescriptorProto) -> Builder {
    let path = format!("{scope}.{}", message.name());
    let builder = builder.message_attribute(&path, DERIVE);
    // A misspelt field in a request is an error; a reply may gain fields that its reader does not know yet.
    if scope == API && !path.ends_with("Response") {
        builder.message_attribute(&path, "#[serde(deny_unknown_fields)]")
    } else {
        builder
    }
}

/// Gives the fields of a message and of those nested in it their serde attributes.
fn field_mapping(mut builder: Builder, scope: &str, message: &DescriptorProto) -> Builder {
    if message.options.as_ref().is_some_and(|options| options.map_entry()) {
        return builder;
    }
    let path = format!("{scope}.{}", message.name());
    for field in &message.field {
        let field_path = format!("{path}.{}", field.name());
        if field.json_name() != field.name() {
            let alias = format!("#[serde(alias = \"{}\")]", field.name());
            builder = builder.field_attribute(&field_path, alias);
        }
        builder = builder.field_attribute(&field_path, field_attribute(&path, field));
    }
    for nested in &message.nested_type {
        builder = field_mapping(builder, &path, nested);
    }
    builder
}

/// How one field is written and read: `null` stands for the default everywhere, as the mapping demands.
fn field_attribute(message: &str, field: &FieldDescriptorProto) -> &'static str {
    let is_list = field.label() == Label::Repeated;
    // Those of google.protobuf are texts in JSON.
    let is_ours = field.type_name().starts_with(".tallyman.v1.");
    match (field.r#type(), is_list) {
        _ if (message, field.name()) == (".google.rpc.Status", "details") => "#[serde(with = \"crate::status::json\")]",
        (Type::Sint64, false) if field.proto3_optional() => {
            "#[serde(with = \"crate::json::optional_int64\", skip_serializing_if = \"Option::is_none\")]"
        }
        (Type::Sint64, false) => "#[serde(with = \"crate::json::int64\")]",
        (Type::Message, false) if is_ours => {
            "#[serde(deserialize_with = \"crate::json::object\", skip_serializing_if = \"Option::is_none\")]"
        }
        (Type::Message, true) if is_ours => "#[serde(deserialize_with = \"crate::json::objects\")]",
        (Type::Message, false) => "#[serde(skip_serializing_if = \"Option::is_none\")]",
        _ => "#[serde(deserialize_with = \"crate::json::null_as_default\")]",
    }
}
