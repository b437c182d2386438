//! Certificates, keys, and tokens, which are created for each control plane.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// The files that are passed to the servers.
pub(super) struct Credentials {
    pub(super) ca: PathBuf,
    pub(super) server_certificate: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) service_account_key: PathBuf,
    pub(super) service_account_public_key: PathBuf,
    pub(super) tokens: PathBuf,
    pub(super) admin_token: String,
}

impl Credentials {
    /// Generates an elliptic-curve key. Generating an RSA key takes longer than starting etcd.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let credentials = Self {
            ca: folder.join("ca.crt"),
            server_certificate: folder.join("server.crt"),
            server_key: folder.join("server.key"),
            service_account_key: folder.join("service-accounts.key"),
            service_account_public_key: folder.join("service-accounts.pub"),
            tokens: folder.join("tokens.csv"),
            admin_token: random_token()?,
        };

        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "test control plane");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let ca_key = KeyPair::generate()?;
        fs::write(&credentials.ca, ca.self_signed(&ca_key)?.pem())?;

        let mut server = CertificateParams::new(vec![
            "127.0.0.1".to_owned(),
            // The address of the Service `kubernetes`.
            "10.0.0.1".to_owned(),
            "localhost".to_owned(),
            "kubernetes.default.svc".to_owned(),
        ])?;
        server
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let certificate = server.signed_by(&server_key, &Issuer::new(ca, ca_key))?;
        fs::write(&credentials.server_certificate, certificate.pem())?;
        fs::write(&credentials.server_key, server_key.serialize_pem())?;

        let signer = KeyPair::generate()?;
        fs::write(&credentials.service_account_key, signer.serialize_pem())?;
        fs::write(
            &credentials.service_account_public_key,
            signer.public_key_pem(),
        )?;

        fs::write(
            &credentials.tokens,
            format!(
                "{},admin,admin,\"system:masters\"\n",
                credentials.admin_token
            ),
        )?;
        Ok(credentials)
    }

    /// Writes a kubeconfig as JSON, which is also valid YAML.
    pub(super) fn write_kubeconfig(
        &self,
        file: &Path,
        server: &str,
        user: &str,
        token: &str,
        namespace: &str,
    ) -> Result<()> {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": server,
                "certificate-authority": self.ca,
            }}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": user, "context": {
                "cluster": "test", "user": user, "namespace": namespace,
            }}],
            "current-context": user,
        });
        fs::write(file, serde_json::to_vec_pretty(&kubeconfig)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
