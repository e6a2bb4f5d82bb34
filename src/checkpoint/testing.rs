//! Manifests as tests read and change them.

use std::cmp::Reverse;

use super::manifests::newest;
use super::{Manifest, ManifestBody, Manifests};
use crate::env::Env;

/// The newest manifest, of an engine that may be running.
pub(crate) async fn newest_manifest(env: &Env) -> Manifest {
    let reader = Manifests::reader(env.clone());
    loop {
        let (_, Reverse(path)) = newest(env, "manifest").await.unwrap().unwrap();
        // The next one may come meanwhile, and what it does not need may go.
        match reader.read_whole(&path).await {
            Ok(manifest) => return manifest,
            Err(error) => {
                let (_, Reverse(newer)) = newest(env, "manifest").await.unwrap().unwrap();
                assert_ne!(newer, path, "{error}");
            }
        }
    }
}

/// Changes the newest manifest of an engine that has ended.
pub(crate) async fn edit_manifest(env: &Env, edit: impl FnOnce(&mut Manifest)) {
    let (manifests, mut manifest) = Manifests::open(env.clone()).await.unwrap();
    edit(&mut manifest);
    let body = ManifestBody::after(&manifest);
    manifests.append(&mut manifest, body).await.unwrap();
}
