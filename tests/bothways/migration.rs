//! Executes docs/MIGRATING.md: the test writes the files of the page and runs its commands, and
//! clients find all images, there and back.

mod machine;
mod page;
mod skopeo;

use reqwest::{Method, Response};
use testkit::{
    require::{self, Need},
    site::{PASSWORD, USER},
};

use crate::{
    content::{Author, DOCKER, OCI},
    ledger::Ledger,
    migration::{
        machine::{Machine, Setup, USERS},
        skopeo::Skopeo,
    },
    place::registry2_is_there,
};

fn all_is_there(suite: &str) -> bool {
    let needs = ["nginx", "htpasswd", "openssl", "curl"].map(Need::Program);
    registry2_is_there(suite) && require::met(suite, &needs)
}

/// The clients, and the content that they have pushed.
struct Clients {
    ledger: Ledger,
    skopeo: Option<Skopeo>,
    /// The responses at the front address, from either program.
    door: Vec<String>,
}

impl Clients {
    /// The clients of the pair, which fill the tree.
    async fn of(machine: &Machine) -> Self {
        let (mut ledger, api) = (Ledger::default(), machine.api(USER));
        Author { api: &api, ledger: &mut ledger }.fill().await;
        let (skopeo, door) = (Skopeo::log_in(machine), door(machine).await);
        let mut clients = Self { ledger, skopeo, door };
        clients.push(machine, "before").await;
        clients
    }

    /// All clients find everything at the same address, and push more.
    async fn go_on(&mut self, machine: &Machine, when: &str) {
        assert_eq!(door(machine).await, self.door, "{when}");
        self.ledger.check(&machine.api(USER)).await;
        self.push(machine, when).await;
    }

    async fn push(&mut self, machine: &Machine, when: &str) {
        for user in USERS {
            let api = machine.api(user);
            let mut author = Author { api: &api, ledger: &mut self.ledger };
            let seed = format!("{user} {when}");
            author.image(&format!("of/{user}/{when}"), &["1", "latest"], DOCKER, &seed).await;
        }
        let api = machine.api(USER);
        let mut author = Author { api: &api, ledger: &mut self.ledger };
        author.list(&format!("of/all/{when}"), &["multi"], OCI, when).await;
        if let Some(skopeo) = &self.skopeo {
            let to = format!("of/skopeo/{when}");
            for (from, tag) in [("team/app", "1.0"), ("team", "multi")] {
                skopeo.copy(machine, &format!("{from}:{tag}"), &format!("{to}:{tag}"));
                self.ledger.copy((from, &to), tag);
            }
        }
        self.ledger.of(|name| name.ends_with(when)).check(&api).await;
        let mut repositories = api.repositories().await;
        // registry:2 lists repositories that have lost their last manifest for ever.
        repositories.remove("emptied");
        assert_eq!(repositories, self.ledger.repositories(), "{when}");
    }
}

/// What clients meet before any image: authentication, redirects, headers.
async fn door(machine: &Machine) -> Vec<String> {
    let (http, base) = (machine.http(), machine.base());
    let check = || http.get(format!("{base}/v2/"));
    let mut answers = vec![
        shown("nobody", &check().send().await.unwrap()),
        shown("wrong", &check().basic_auth(USER, Some("wrong")).send().await.unwrap()),
        shown("unknown", &check().basic_auth("eve", Some(PASSWORD)).send().await.unwrap()),
    ];
    for user in USERS {
        let answer = check().basic_auth(user, Some(PASSWORD)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{user}");
        answers.push(shown(user, &answer));
    }
    for path in ["/", "/v2/", "/v2/team/app/tags/list?n=1"] {
        let plain = http.get(format!("{}{path}", machine.plain_base())).send().await.unwrap();
        assert_eq!(plain.status(), 301, "{path}");
        answers.push(format!("{path} {:?}", plain.headers()["location"]));
    }
    // The URL of an upload: the same address, over HTTPS.
    let begun = http.post(format!("{base}/v2/door/blobs/uploads/"));
    let begun = begun.basic_auth(USER, Some(PASSWORD)).send().await.unwrap();
    let location = begun.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(&base), "{location}");
    let cancel = http.request(Method::DELETE, location).basic_auth(USER, Some(PASSWORD));
    assert_eq!(cancel.send().await.unwrap().status(), 204);
    answers
}

fn shown(who: &str, answer: &Response) -> String {
    let header = |name| answer.headers().get(name).map_or("", |value| value.to_str().unwrap());
    // The part after the realm is on the list of differences.
    let challenge = header("www-authenticate").split(',').next().unwrap();
    format!(
        "{who}: {} {challenge} {} {}",
        answer.status(),
        header("docker-distribution-api-version"),
        header("strict-transport-security"),
    )
}

#[tokio::test]
async fn page_leads_from_the_pair_to_portcullis_and_back() {
    if !all_is_there("bothways: migration") {
        return;
    }
    let mut machine = Machine::new(Setup::Files);
    machine.check_stand_ins();
    machine.start("docker-registry");
    machine.start("nginx");
    let mut clients = Clients::of(&machine).await;

    let [_, outdated, findings] = &machine.enter("before")[..] else { panic!("three commands") };
    for (user, is_old) in USERS.into_iter().zip([false, true, true, true]) {
        assert_eq!(outdated.contains(&format!("\"{user}\"")), is_old, "{outdated}");
    }
    assert_eq!(findings, "", "the tree has no damage");
    machine.enter("keep");
    machine.change_config();
    machine.enter("swap");
    clients.go_on(&machine, "after").await;
    let log = machine.log("portcullis");
    assert!(!log.contains("level=error"), "{log}");
    let [catalog, redirect, config] = &machine.enter("after")[..] else { panic!("three commands") };
    assert!(catalog.contains("\"team/app/nested\""), "{catalog}");
    assert!(redirect.starts_with("HTTP/1.1 301 "), "{redirect}");
    assert!(config.contains("legacyformats: true") && config.contains("config.yml:"), "{config}");

    machine.enter("back");
    clients.go_on(&machine, "back").await;
}

#[tokio::test]
async fn compose_file_takes_the_place_of_a_pair_in_containers() {
    if !all_is_there("bothways: migration of containers") {
        return;
    }
    let [theirs, ours] = page::volumes();
    assert!(ours.len() > 2 && ours.iter().all(|folder| theirs.contains(folder)), "{ours:?}");
    let mut machine = Machine::new(Setup::Containers);
    machine.start("docker-registry");
    machine.start("nginx");
    let mut clients = Clients::of(&machine).await;
    machine.stop("nginx");
    machine.stop("docker-registry");
    machine.start("portcullis");
    clients.go_on(&machine, "after").await;
    let log = machine.log("portcullis");
    assert!(!log.contains("level=error") && !log.contains("names no key"), "{log}");
    machine.stop("portcullis");
    machine.start("docker-registry");
    machine.start("nginx");
    clients.go_on(&machine, "back").await;
}

#[tokio::test]
async fn portcullis_takes_the_place_of_registry_2_where_nginx_stays() {
    if !all_is_there("bothways: migration behind nginx") {
        return;
    }
    let mut machine = Machine::new(Setup::BehindNginx);
    machine.start("docker-registry");
    machine.start("nginx");
    let mut clients = Clients::of(&machine).await;
    machine.stop("docker-registry");
    machine.start("portcullis");
    machine.ask_no_password_in_nginx();
    machine.stop("nginx");
    machine.start("nginx");
    clients.go_on(&machine, "after").await;
    let log = machine.log("portcullis");
    assert!(!log.contains("level=error"), "{log}");
}
