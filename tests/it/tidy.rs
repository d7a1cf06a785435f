//! Rules about the sources themselves, read from the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use palisade_protocol::api;
use palisade_tests::paths;

fn read(path: impl AsRef<Path>) -> String {
    let path = paths::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files of the repository's own with the given extension, relative to its root.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![paths::root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let relative = path.strip_prefix(paths::root()).expect("below the root");
                found.push(relative.to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// Source lines without comments and without what stands in quotes.
fn code(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().map(|(number, line)| {
        let mut bare = String::new();
        for (at, part) in line.split('"').enumerate() {
            if at % 2 == 0 {
                bare.push_str(part);
            }
        }
        let end = bare.find("//").unwrap_or(bare.len());
        (number + 1, bare[..end].to_owned())
    })
}

/// Which of the workspace's crates each may know, outside of tests.
#[test]
fn dependencies_point_one_way() {
    let may_know = BTreeMap::from([
        ("protocol", vec!["palisade-protocol-derive"]),
        ("protocol/derive", vec![]),
        ("storage", vec!["palisade-protocol"]),
        ("auth", vec![]),
        (
            "broker",
            vec!["palisade-auth", "palisade-protocol", "palisade-storage"],
        ),
    ]);
    for (folder, may_know) in may_know {
        let manifest = read(format!("{folder}/Cargo.toml"));
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if section == "[dependencies]" && name.starts_with("palisade") {
                assert!(may_know.contains(&name), "{folder} may not know {name}");
            }
        }
    }
}

#[test]
fn unsafe_code_stays_in_its_files() {
    let allowed = ["storage/src/mmap.rs", "broker/src/server/sockopt.rs"];
    for file in files("rs") {
        if allowed.iter().any(|allowed| file == Path::new(allowed)) {
            continue;
        }
        for (number, line) in code(&read(&file)) {
            let found = line
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "unsafe");
            assert!(!found, "{}:{number}: unsafe code", file.display());
        }
    }
}

/// Every served API is in the dispatch table, with a file of its own or in the controller's care, and no file that
/// bears an API's name stands outside the table.
#[test]
fn handlers_and_dispatch_agree() {
    let dispatch = read("broker/src/dispatch.rs");
    let (handled, controlled) = dispatch.split_once("controlled:\n").expect("two lists");
    for spec in api::SERVED {
        let name = spec.key.name();
        let row = format!("    {}: {name}Request", snake_case(name));
        let file = format!("broker/src/handlers/{}.rs", snake_case(name));
        if handled.contains(&row) {
            assert!(paths::root().join(&file).exists(), "there is no {file}");
        } else {
            assert!(
                controlled.contains(&row),
                "{name} is served but not dispatched to"
            );
        }
    }
    let rows: BTreeSet<_> = dispatch
        .lines()
        .filter_map(|line| line.trim_start().split_once(": "))
        .filter(|(_, request)| request.trim_end_matches([',', ';']).ends_with("Request"))
        .map(|(module, _)| module.to_owned())
        .collect();
    let apis: BTreeSet<_> = api::ApiKey::ALL
        .iter()
        .map(|key| snake_case(key.name()))
        .collect();
    for file in files("rs") {
        let folder = file.parent().and_then(Path::to_str).unwrap_or_default();
        let module = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let handlers = ["broker/src/handlers", "broker/src/metadata/controller"];
        if handlers.contains(&folder) && apis.contains(module) {
            assert!(
                rows.contains(module),
                "{} is not dispatched to",
                file.display()
            );
        }
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// README's table of APIs is the one the node advertises from.
#[test]
fn readme_lists_the_apis_served() {
    let readme = read("README.md");
    let table = between(&readme, "<!-- apis: begin -->\n", "<!-- apis: end -->");
    let wanted = api::versions_table();
    assert!(
        table == wanted,
        "the table between the markers in README.md should read:\n{wanted}"
    );
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("no {begin:?}"));
    let (inside, _) = rest.split_once(end).unwrap_or_else(|| panic!("no {end:?}"));
    inside
}

/// Above README's first section stand two commands: one runs a node, the other passes all tests; CI calls the latter.
#[test]
fn readme_begins_with_two_commands() {
    let readme = read("README.md");
    let (top, _) = readme.split_once("\n## ").expect("README.md has sections");
    let mut commands = Vec::new();
    let mut inside = false;
    for line in top.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside || line.starts_with("    ") {
            commands.push(line.trim());
        }
    }
    assert_eq!(commands, ["cargo run --release -- dev", "./tests/run"]);
    assert!(read(".ci/run").contains("./tests/run"));
}

/// What the documents call by its path is there.
#[test]
fn documents_name_what_is_there() {
    let folders = [
        "auth", "benches", "broker", "deploy", "protocol", "storage", "tests",
    ];
    let mut named = 0;
    for document in [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
    ] {
        for path in read(document).split('`').skip(1).step_by(2) {
            if path
                .split_once('/')
                .is_some_and(|(top, _)| folders.contains(&top))
            {
                assert!(
                    paths::root().join(path).exists(),
                    "{document}: there is no {path}"
                );
                named += 1;
            }
        }
    }
    assert!(named > 20, "only {named} paths were found");
}

/// Files of one subject stay readable in one sitting.
#[test]
fn files_have_one_subject() {
    for file in files("rs") {
        let lines = read(&file).lines().count();
        assert!(
            lines <= 700,
            "{}: {lines} lines; is there a second subject?",
            file.display()
        );
    }
}

/// Tests wait for conditions; they neither sleep nor are switched off.
#[test]
fn tests_do_not_sleep() {
    for file in files("rs") {
        if file.ends_with("tidy.rs") {
            continue;
        }
        for (number, line) in code(&read(&file)) {
            let at = format!("{}:{number}", file.display());
            assert!(!line.contains("#[ignore"), "{at}: an ignored test");
            if file.starts_with("tests") {
                assert!(!line.contains("sleep("), "{at}: a sleep in a test");
            }
        }
    }
}
