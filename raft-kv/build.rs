//! Makes Rust of the interface of the etcd v3 door, if that is built at all. No other compiler is
//! needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "etcd")]
    door::generate()?;
    Ok(())
}

#[cfg(feature = "etcd")]
mod door {
    use std::error::Error;

    const FILES: [&str; 6] = [
        "auth.proto",
        "mvcc.proto",
        "etcdserver.proto",
        "lock.proto",
        "election.proto",
        "health.proto",
    ];

    /// Those that also have a form in JSON.
    const IN_JSON: [&str; 5] =
        [".authpb", ".mvccpb", ".etcdserverpb", ".v3lockpb", ".v3electionpb"];

    pub(super) fn generate() -> Result<(), Box<dyn Error>> {
        println!("cargo::rerun-if-changed=proto");
        let files = protox::compile(FILES, ["proto"])?;
        let mut json = pbjson_build::Builder::new();
        for file in &files.file {
            json.register_file_descriptor(file.clone());
        }
        // As etcd's gateway does, what is not known is left out.
        json.preserve_proto_field_names().ignore_unknown_fields().build(&IN_JSON)?;
        tonic_prost_build::configure()
            .bytes(".")
            .build_transport(false)
            .codec_path("crate::etcd::messages::Codec")
            .emit_rerun_if_changed(false)
            .compile_fds(files)?;
        Ok(())
    }
}
