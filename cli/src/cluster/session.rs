//! The client of a command.

use super::response_limit::{LimitResponses, MAX_RESPONSE};
use super::{Access, ClusterError, kubeconfig};
use clap::Args;
use kube::api::PatchParams;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use oaat_api::text::{self, clean};
use std::path::PathBuf;
use std::time::Duration;

/// How to reach the cluster, with the flags of kubectl.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// The namespace. The default is the one of the context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// The context of the kubeconfig.
    #[arg(long)]
    context: Option<String>,
    /// The kubeconfig file. The default is $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How long to wait for a response of the API server, such as 10s.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    request_timeout: Duration,
}

/// A client and the namespace of a command.
#[derive(Clone)]
pub(crate) struct Session {
    pub client: Client,
    /// The namespace of the command.
    pub namespace: String,
    /// The URL of the API server, for messages.
    pub server: String,
    timeout: Duration,
}

/// The field manager of the commands. Flux removes the fields of managers whose names begin with
/// `kubectl`.
const FIELD_MANAGER: &str = "oaat-cli";

/// Returns the parameters of a patch.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

impl Session {
    /// Reads the kubeconfig and creates a client. Sends no request.
    pub async fn new(args: &ClusterArgs) -> Result<Self, ClusterError> {
        let mut config = config(args).await?;
        config.connect_timeout = Some(args.request_timeout);
        let server = clean(&config.cluster_url.to_string(), text::PROBLEM);
        let namespace = args.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let limit = tower::layer::layer_fn(|service| LimitResponses {
            service,
            limit: MAX_RESPONSE,
        });
        let client = ClientBuilder::try_from(config)
            .map_err(|error| ClusterError::NoCluster(clean(&error.to_string(), text::PROBLEM)))?
            .with_layer(&limit)
            .build();
        Ok(Self {
            client,
            namespace,
            server,
            timeout: args.request_timeout,
        })
    }

    /// Returns a session that reaches no cluster.
    #[cfg(test)]
    pub fn unconnected(namespace: &str) -> Self {
        let config = Config::new(http::Uri::from_static("https://127.0.0.1:1"));
        Self {
            client: Client::try_from(config).expect("the configuration is valid"),
            namespace: namespace.to_owned(),
            server: "https://127.0.0.1:1/".to_owned(),
            timeout: Duration::from_secs(1),
        }
    }

    /// Sends a request, within the timeout.
    pub async fn request<T>(
        &self,
        access: Access,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ClusterError> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(answer) => {
                answer.map_err(|error| ClusterError::of_request(error, access, &self.server))
            }
            Err(_) => Err(ClusterError::Timeout(self.timeout)),
        }
    }
}

async fn config(args: &ClusterArgs) -> Result<Config, ClusterError> {
    let no_cluster = |error: &dyn std::error::Error| {
        ClusterError::NoCluster(clean(&error.to_string(), text::PROBLEM))
    };
    let mut config = match kubeconfig::read(args.kubeconfig.as_deref(), args.context.as_deref()) {
        Ok(kubeconfig) => {
            if has_proxy(&kubeconfig, args.context.as_deref()) {
                return Err(ClusterError::Usage(
                    "the cluster has a proxy-url in the kubeconfig, which kubectl-oaat does not \
                     support; use a --context without it"
                        .to_owned(),
                ));
            }
            let options = KubeConfigOptions {
                context: args.context.clone(),
                ..KubeConfigOptions::default()
            };
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map_err(|error| no_cluster(&error))?
        }
        // In a pod, there is usually no kubeconfig.
        Err(error) if args.kubeconfig.is_none() && args.context.is_none() => {
            Config::incluster().map_err(|_| no_cluster(&error))?
        }
        Err(error) => return Err(no_cluster(&error)),
    };
    // It can only be HTTPS_PROXY, which kube applies even to addresses in NO_PROXY.
    config.proxy_url = None;
    // A repeated write is a conflict with the first one, and hides that it took effect.
    config.default_retry = false;
    Ok(config)
}

/// Returns whether the cluster of a context, or of the current one, has a proxy.
fn has_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> bool {
    let Some(name) = context.or(kubeconfig.current_context.as_deref()) else {
        return false;
    };
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts.find(|context| context.name == name);
    let Some(context) = context.and_then(|context| context.context.as_ref()) else {
        return false;
    };
    let mut clusters = kubeconfig.clusters.iter();
    let cluster = clusters.find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.and_then(|cluster| cluster.cluster.as_ref());
    let proxy = cluster.and_then(|cluster| cluster.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_of_the_selected_context_is_found() {
        let kubeconfig = Kubeconfig::from_yaml(
            "current-context: direct
contexts:
- {name: direct, context: {cluster: direct, user: u}}
- {name: proxied, context: {cluster: proxied, user: u}}
- {name: empty, context: {cluster: empty, user: u}}
clusters:
- {name: direct, cluster: {server: 'https://a'}}
- {name: proxied, cluster: {server: 'https://a', proxy-url: 'http://p:3128'}}
- {name: empty, cluster: {server: 'https://a', proxy-url: ''}}
",
        )
        .unwrap();
        for (context, expected) in [
            (None, false),
            (Some("proxied"), true),
            (Some("empty"), false),
            (Some("absent"), false),
        ] {
            assert_eq!(has_proxy(&kubeconfig, context), expected, "{context:?}");
        }
    }
}
