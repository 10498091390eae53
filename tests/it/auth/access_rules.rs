//! Access rules in force, and changes of rules and groups while the server runs.

use std::{fs, time::Duration};

use portcullis::gate::AccessOptions;
use serde_json::json;

use crate::support::{
    TestServer,
    server::{Answered as _, USER},
};

fn rules(groupfile: &std::path::Path, group: &str) -> Option<AccessOptions> {
    let rules = json!([
        { "who": ["anyone"], "repositories": ["public/**"], "may": ["pull"] },
        { "who": [format!("group:{group}")], "repositories": [format!("{group}/**")], "may": ["push"] },
    ]);
    serde_json::from_value(json!({ "groupfile": groupfile, "rules": rules })).unwrap()
}

async fn server(groups: &str) -> TestServer {
    TestServer::with(|config| {
        let file = config_folder(config).join("groups");
        fs::write(&file, groups).unwrap();
        config.access = rules(&file, "team-a");
    })
    .await
}

/// The folder of the password file.
fn config_folder(config: &portcullis::config::Config) -> std::path::PathBuf {
    let portcullis::gate::Options::Htpasswd(options) = &config.auth else { unreachable!() };
    options.path.parent().unwrap().to_owned()
}

async fn upload(server: &TestServer, name: &str) -> u16 {
    let target = format!("/v2/{name}/blobs/uploads/");
    server.request("POST", &target).answer().await.status.as_u16()
}

#[tokio::test]
async fn access_rules_open_what_they_say_and_close_the_rest() {
    let server = server(&format!("team-a: {USER}\n")).await;
    assert_eq!(upload(&server, "team-a/app").await, 202);
    assert_eq!(upload(&server, "team-b/app").await, 403);
    assert_eq!(upload(&server, "public/app").await, 403);
    server.get("/v2/public/app/tags/list").await.expect(404);
    server.delete("/v2/team-a/app/manifests/latest").await.expect(403);
    server.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn changed_group_file_is_in_force_without_a_signal() {
    let server = server("team-a:\n").await;
    assert_eq!(upload(&server, "team-a/app").await, 403);
    let groups = server.folder().join("groups");
    let becomes = async |status: u16| {
        let change = async {
            while upload(&server, "team-a/app").await != status {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), change).await.expect("it is noticed");
    };
    fs::write(&groups, format!("team-a: {USER}\n")).unwrap();
    becomes(202).await;
    // A broken file changes nothing.
    fs::write(&groups, "team-a nobody\n").unwrap();
    server.app().reload().await;
    assert_eq!(upload(&server, "team-a/app").await, 202);
    // A group without its line has no members.
    fs::write(&groups, format!("team-b: {USER}\n")).unwrap();
    becomes(403).await;
}

#[tokio::test]
async fn rules_of_a_reloaded_configuration_are_in_force() {
    let server = server(&format!("team-a: {USER}\nteam-b: {USER}\n")).await;
    let groups = server.folder().join("groups");
    let mut config = server.config().clone();
    config.access = rules(&groups, "team-b");
    server.app().apply(&config).await;
    assert_eq!(upload(&server, "team-a/app").await, 403);
    assert_eq!(upload(&server, "team-b/app").await, 202);

    config.access = rules(&groups, "team-c");
    let reloaded = server.app().apply(&config).await;
    assert_eq!(reloaded.change("access.rules"), portcullis::app::Change::Unusable);
    assert_eq!(upload(&server, "team-b/app").await, 202, "the old rules stay in force");

    config.access = None;
    server.app().apply(&config).await;
    assert_eq!(upload(&server, "anything").await, 202);
}
