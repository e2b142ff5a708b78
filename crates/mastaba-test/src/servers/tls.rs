//! Certificates for one server and its clients.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// The files, in PEM, by which a server and its clients trust each other. Each server has an authority of its own:
/// that of another server is one that nobody should trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes an authority, and what it has signed: a certificate for `localhost` and `127.0.0.1`, and one for a client.
    pub(super) fn write(folder: &Path) -> Self {
        let certificates = Self { folder: folder.to_owned() };
        let mut params = named("Mastaba's tests", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        let ca = params.self_signed(&key).expect("a certificate can be signed");
        save(&certificates.ca(), &ca.pem());
        let issuer = Issuer::new(params, key);
        let sign = |params: CertificateParams, certificate: &Path, key_file: &Path| {
            let key = KeyPair::generate().expect("a key can be made");
            let signed = params.signed_by(&key, &issuer).expect("a certificate can be signed");
            save(certificate, &signed.pem());
            save(key_file, &key.serialize_pem());
        };
        let server = named("a server", &["localhost", "127.0.0.1"]);
        sign(server, &certificates.server_certificate(), &certificates.server_key());
        let client = named("a client", &[]);
        sign(client, &certificates.client_certificate(), &certificates.client_key());
        certificates
    }

    /// The certificate of the authority that signed both others.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// What the server shows.
    pub fn server_certificate(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// What the server signs with.
    pub fn server_key(&self) -> PathBuf {
        self.folder.join("server-key.pem")
    }

    /// What a client shows.
    pub fn client_certificate(&self) -> PathBuf {
        self.folder.join("client.pem")
    }

    /// What a client signs with.
    pub fn client_key(&self) -> PathBuf {
        self.folder.join("client-key.pem")
    }
}

fn named(name: &str, addresses: &[&str]) -> CertificateParams {
    let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
    let mut params = CertificateParams::new(addresses).expect("these are addresses");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn save(path: &Path, text: &str) {
    fs::write(path, text).expect("a certificate can be written");
}
