//! The client of a command.

use super::{Access, ClusterError};
use clap::Args;
use kube::api::PatchParams;
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
        let client = Client::try_from(config)
            .map_err(|error| ClusterError::NoCluster(clean(&error.to_string(), text::PROBLEM)))?;
        Ok(Self {
            client,
            namespace,
            server,
            timeout: args.request_timeout,
        })
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
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(file) = &args.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| no_cluster(&error))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        return config.map_err(|error| no_cluster(&error));
    }
    if args.context.is_some() {
        let config = Config::from_kubeconfig(&options).await;
        return config.map_err(|error| no_cluster(&error));
    }
    Config::infer().await.map_err(|error| no_cluster(&error))
}
