use std::io::Read;
fn main() {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).unwrap();
    let host = policy_host::Host::new(policy_host::Limits::default()).unwrap();
    match host.load(&bytes, None) {
        Ok(_) => println!("Compiled "),
        Err(error) => println!("{} {error}", error.reason()),
    }
}
