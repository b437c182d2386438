use super::*;

fn allowed(texts: &[&str]) -> Allowed {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    Allowed::read(&texts).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn hosts_are_those_that_are_named() {
    let some = allowed(&[
        "Lists.example.com",
        "*.example.org",
        " ",
        "10.1.0.0/16",
        "::1",
    ]);
    for (url, permitted) in [
        ("https://lists.example.com/a", true),
        ("https://LISTS.example.com./a", true),
        ("https://other.example.com/", false),
        ("https://a.b.example.org/", true),
        ("https://example.org/", false),
        ("https://evilexample.org/", false),
        ("http://10.1.2.3:8080/", true),
        ("http://10.2.2.3/", false),
        ("http://0x0a020203/", false),
        ("http://[::1]/", true),
        ("http://[::ffff:10.2.2.3]/", false),
        ("http://[::ffff:10.1.2.3]/", true),
    ] {
        let url = Url::parse(url).unwrap();
        assert_eq!(some.url(&url).is_ok(), permitted, "{url}");
    }
    let none = allowed(&[]);
    let refused = none
        .url(&Url::parse("https://a.example/").unwrap())
        .unwrap_err();
    assert!(
        refused.contains("--allow-items-from a.example"),
        "{refused}"
    );
    for wrong in ["https://a.example", "a b", "*.", "10.0.0.0/99"] {
        let error = Allowed::read(&[wrong.to_owned()]).unwrap_err();
        assert!(
            error.contains(wrong) && error.contains("*.example.com"),
            "{error}"
        );
    }
}

#[test]
fn addresses_within_are_not_public() {
    for within in [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "192.0.0.8",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "2001::1",
        "::7f00:1",
    ] {
        assert!(!public(within.parse().unwrap()), "{within}");
        assert!(
            allowed(&[within]).address(within.parse().unwrap()),
            "{within}"
        );
    }
    for outside in [
        "1.1.1.1",
        "8.8.8.8",
        "2606:4700::1",
        "64:ff9b::101:101",
        "172.32.0.1",
        "100.128.0.1",
    ] {
        assert!(public(outside.parse().unwrap()), "{outside}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told_before_it_is_made() {
    let wrong = |http: ItemsHttp| problems(&http).join("; ");
    let with = |url: &str| ItemsHttp {
        url: url.into(),
        ..ItemsHttp::default()
    };
    assert_eq!(wrong(with("https://a.example/x?y")), "");
    assert!(wrong(with("ftp://a.example/")).contains("http or https"));
    assert!(wrong(with("nonsense")).contains("http.url"));
    assert!(wrong(with("https://me:secret@a.example/")).contains("a password"));
    let header = |name: &str, value: &str| ItemsHttp {
        headers: [(name.to_owned(), value.to_owned())].into(),
        ..with("https://a.example/")
    };
    assert_eq!(wrong(header("Accept", "text/plain")), "");
    for (name, value) in [("no name", "x"), ("Accept", "a\nb"), ("host", "b.example")] {
        assert!(wrong(header(name, value)).contains("no header"), "{name}");
    }
    let path = ItemsHttp {
        json_path: Some("$[".into()),
        ..with("https://a.example/")
    };
    assert!(wrong(path).contains("$.items[*].name"));
    let bundle = ItemsHttp {
        ca_bundle: Some("hello".into()),
        ..with("https://a.example/")
    };
    assert!(wrong(bundle).contains("BEGIN CERTIFICATE"));
}

/// A server that answers each connection with the next of these texts.
async fn server(answers: Vec<String>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        // Whoever comes now is heard, and waits.
        let _waits = listener.accept().await;
        std::future::pending::<()>().await;
    });
    format!("http://{address}/")
}

async fn ask(answers: Vec<String>, timeout: u64) -> Result<Answer, String> {
    let http = ItemsHttp {
        url: server(answers).await,
        ..ItemsHttp::default()
    };
    let allowed = Arc::new(allowed(&["127.0.0.1"]));
    fetch(&http, Duration::from_millis(timeout), &allowed, None).await
}

#[tokio::test]
async fn an_answer_is_bounded_in_size_and_time() {
    let answer = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let items = ask(vec![answer("a\nb\n")], 20_000)
        .await
        .map(|answer| answer.items);
    assert_eq!(items, Ok(vec!["a".to_owned(), "b".to_owned()]));
    let large = ask(vec![answer(&"a\n".repeat(MAX_TEXT))], 20_000).await;
    assert!(large.unwrap_err().contains("longer than"));
    let silent = ask(vec![], 300).await;
    assert!(silent.unwrap_err().contains("in time"));
}

#[tokio::test]
async fn only_what_stays_with_the_server_is_followed() {
    let moved = |to: &str| {
        format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    };
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na".to_owned();
    let within = ask(vec![moved("/there"), good.clone()], 20_000).await;
    assert_eq!(within.map(|answer| answer.items), Ok(vec!["a".to_owned()]));
    let away = ask(vec![moved("http://127.0.0.1:1/"), good], 20_000)
        .await
        .unwrap_err();
    assert!(
        away.contains("http://127.0.0.1:1/") && away.contains("not followed"),
        "{away}"
    );
    let round = ask(
        vec![
            moved("/a"),
            moved("/b"),
            moved("/c"),
            moved("/d"),
            moved("/e"),
        ],
        20_000,
    )
    .await;
    assert!(round.unwrap_err().contains("not followed"));
}
