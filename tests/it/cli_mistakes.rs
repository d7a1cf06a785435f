//! Mistakes at the command line: said in words, before anything is done where that can be, and with
//! an exit status that tells.

use palisade_tests::dev::Dev;

use crate::cli_data::Cli;

/// Runs a command that must fail with these words on standard error and nothing on standard output.
fn refused(cli: &Cli, arguments: &[&str], status: i32, words: &str) {
    let (code, out, err) = cli.run(arguments);
    assert_eq!(code, status, "{arguments:?}: {out}\n{err}");
    assert!(err.contains(words), "{arguments:?}: {err}");
    assert_eq!(out, "", "{arguments:?}");
}

#[test]
fn what_is_named_twice() {
    let dev = Dev::start(&["--topic", "twice", "--topic", "other"]);
    let cli = Cli::new(&dev.admin());
    let set = ["--config", "retention.ms=1000"];
    let twice = "retention.ms: the key is given more than once";
    for more in [["--config", "retention.ms=2000"], ["--delete-config", "retention.ms"]] {
        let alter = [&["topic", "alter", "twice"][..], &set, &more].concat();
        refused(&cli, &alter, 2, twice);
    }
    let create = [&["topic", "create", "new"][..], &set, &set].concat();
    refused(&cli, &create, 2, twice);

    let deleted = cli.done(&["topic", "delete", "twice", "other", "twice"]);
    assert_eq!(deleted, "deleted twice\ndeleted other");
}

/// The name of a code stands behind the words; programs find it, and its number, in JSON.
#[test]
fn codes_stand_behind_words() {
    let dev = Dev::start(&["--plaintext", "--topic", "orders"]);
    let cli = Cli::new(&dev.admin());
    let plain = cli.file("plain.properties", "security.protocol=PLAINTEXT\n");
    let nobody = Cli::with_file(&plain);
    let address = dev.text(&["listeners", "PLAINTEXT", "address"]);
    let at = ["--bootstrap", address];
    let no_right = "this user has no right to do that to the topic (TOPIC_AUTHORIZATION_FAILED)";
    for verb in ["create", "delete"] {
        let command = [&["topic", verb, "orders"][..], &at].concat();
        refused(&nobody, &command, 1, &format!("topic orders: {no_right}"));
    }
    let add = ["acl", "add", "allow User:x read topic:orders"];
    let words = "no right to do that to the cluster (CLUSTER_AUTHORIZATION_FAILED)";
    refused(&nobody, &[&add[..], &at].concat(), 1, words);

    let (code, out, err) = cli.run(&["topic", "create", "bad name", "--json"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let said: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(said["error"]["name"], "INVALID_TOPIC_EXCEPTION", "{said}");
    assert_eq!(said["error"]["code"], 17, "{said}");
}
