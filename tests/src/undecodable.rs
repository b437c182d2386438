//! A group that the API server accepts, and that the operator and the command line cannot decode.

use anyhow::Result;
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;

/// Creates the group `deep`, whose settings are nested `levels` deep.
///
/// # Errors
/// Returns an error if the API server rejects it.
pub async fn create_deeply_nested(client: &Client, namespace: &str, levels: usize) -> Result<()> {
    let body = format!(
        r#"{{"apiVersion":"kawaja.net/v1","kind":"OaatGroup","metadata":{{"name":"deep"}},"spec":{{
        "oaatType":"work","oaatItems":["a"],"policy":{{"configMap":{{"name":"p"}},"settings":{}1{}}}}}}}"#,
        r#"{"a":"#.repeat(levels),
        "}".repeat(levels)
    );
    let uri = format!("/apis/kawaja.net/v1/namespaces/{namespace}/oaatgroups");
    let create = Request::new(uri).create(&PostParams::default(), body.into_bytes())?;
    // The response is nested as deeply, and is not read.
    client.request_text(create).await?;
    Ok(())
}
