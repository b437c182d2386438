//! Writes the generated pages of docs/, and builds the book into target/book. Run it with `cargo
//! xtask docs`.

use anyhow::{Context, Result};

fn main() -> Result<()> {
    for page in oaat_docs::generated()? {
        let path = oaat_docs::root().join("docs").join(page.name);
        std::fs::write(&path, page.text).with_context(|| path.display().to_string())?;
        println!("wrote {}", path.display());
    }
    let folder = oaat_docs::target().join("book");
    oaat_docs::book::build(&folder)?;
    println!("wrote {}", folder.join("index.html").display());
    Ok(())
}
