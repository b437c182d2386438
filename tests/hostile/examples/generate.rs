fn main() {
    let begin = std::time::Instant::now();
    let all = hostile_policies::attacks().unwrap();
    let took = begin.elapsed();
    let folder = std::path::PathBuf::from("/tmp/attacks");
    std::fs::create_dir_all(&folder).unwrap();
    for attack in &all {
        std::fs::write(folder.join(&attack.name), &attack.bytes).unwrap();
        println!("{} {} {:?}", attack.name, attack.bytes.len(), attack.ends);
    }
    println!("{} attacks in {took:?}", all.len());
    println!("{} lists {} paths {} objects", hostile_policies::lists().len(), hostile_policies::paths().len(), hostile_policies::objects().len());
}
