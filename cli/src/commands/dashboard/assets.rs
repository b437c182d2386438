//! The files of the page. They are part of the program, and contain nothing about the cluster.

/// A file of the page.
pub(super) struct Asset {
    pub path: &'static str,
    pub content_type: &'static str,
    pub content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Returns the asset `/$name`.
macro_rules! asset {
    ($path:literal, $name:literal, $content_type:expr) => {
        Asset {
            path: $path,
            content_type: $content_type,
            content: include_str!(concat!("../../../assets/dashboard/", $name)),
        }
    };
}

pub(super) const ASSETS: [Asset; 9] = [
    asset!("/", "index.html", HTML),
    asset!("/page.css", "page.css", CSS),
    asset!("/icon.svg", "icon.svg", SVG),
    asset!("/page.js", "page.js", SCRIPT),
    asset!("/server.js", "server.js", SCRIPT),
    asset!("/elements.js", "elements.js", SCRIPT),
    asset!("/group-list.js", "group-list.js", SCRIPT),
    asset!("/group-detail.js", "group-detail.js", SCRIPT),
    asset!("/forecast.js", "forecast.js", SCRIPT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_small_and_loads_nothing_from_elsewhere() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.content.len()).sum();
        assert!(bytes <= 100 << 10, "{bytes} bytes");
        for asset in ASSETS {
            let text = asset.content.replace("http://www.w3.org/2000/svg", "");
            for forbidden in ["http:", "https:", "innerHTML", "style=", "eval("] {
                assert!(!text.contains(forbidden), "{}: {forbidden}", asset.path);
            }
        }
    }
}
