//! Archives without properties of this machine: the same files result in the same bytes.

use anyhow::Result;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// The mode of a file that is not a program.
pub(crate) const DATA: u32 = 0o644;
/// The mode of a program.
pub(crate) const PROGRAM: u32 = 0o755;

/// The files of an archive, by name.
#[derive(Default)]
pub(crate) struct Files(BTreeMap<String, (u32, Vec<u8>)>);

impl Files {
    /// Adds a file, or replaces the one with this name.
    pub(crate) fn add(&mut self, name: impl Into<String>, mode: u32, bytes: Vec<u8>) {
        self.0.insert(name.into(), (mode, bytes));
    }

    /// Returns the content of a file, to change it.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        self.0.get_mut(name).map(|(_, bytes)| bytes)
    }

    /// Reads the files of a tar archive that is compressed with gzip. All of them are data.
    pub(crate) fn from_tar_gz(bytes: &[u8]) -> Result<Self> {
        let mut files = Self::default();
        for entry in tar::Archive::new(GzDecoder::new(bytes)).entries()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.add(name, DATA, content);
        }
        Ok(files)
    }

    /// Returns a tar archive in which the files are in the order of their names, belong to root, and
    /// have no time.
    pub(crate) fn tar(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, (mode, bytes)) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_cksum();
            archive.append_data(&mut header, name, bytes.as_slice())?;
        }
        Ok(archive.into_inner()?)
    }

    /// Returns [`Self::tar`], compressed with gzip.
    pub(crate) fn tar_gz(&self) -> Result<Vec<u8>> {
        gzip(&self.tar()?)
    }
}

/// Compresses bytes with gzip, without a name and a time.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Returns the SHA-256 digest of bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_depends_only_on_its_files() {
        let archive = |names: [&str; 2]| {
            let mut files = Files::default();
            for name in names {
                files.add(name, PROGRAM, name.as_bytes().to_vec());
            }
            files.tar_gz().expect("writing to memory does not fail")
        };
        let bytes = archive(["a/b", "c"]);
        assert_eq!(bytes, archive(["c", "a/b"]));
        // RFC 1952: no flags (so no name), and no modification time.
        assert_eq!(bytes[3..8], [0; 5]);
        assert_ne!(bytes, archive(["a/b", "d"]));
    }

    #[test]
    fn archive_that_is_read_and_written_has_no_times() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mtime(1_700_000_000);
        for name in ["z", "a"] {
            builder
                .append_data(&mut header, name, &b"x"[..])
                .expect("writing to memory does not fail");
        }
        let tar = builder
            .into_inner()
            .expect("writing to memory does not fail");
        let packed = gzip(&tar).expect("writing to memory does not fail");
        let mut files = Files::from_tar_gz(&packed).expect("the archive is valid");
        assert_eq!(
            files.get_mut("a").map(|bytes| bytes.clone()),
            Some(b"x".to_vec())
        );
        let mut expected = Files::default();
        expected.add("a", DATA, b"x".to_vec());
        expected.add("z", DATA, b"x".to_vec());
        let bytes = |files: &Files| files.tar().expect("writing to memory does not fail");
        assert_eq!(bytes(&files), bytes(&expected));
        assert!(Files::from_tar_gz(b"no archive").is_err());
    }
}
