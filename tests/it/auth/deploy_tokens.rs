//! Deploy tokens: logins of programs, with rights in a line of a file.

use std::{
    fs,
    time::{Duration, Instant},
};

use portcullis::{
    gate::{
        self, Access, Policy,
        access::{Groups, Rule},
        htpasswd::BcryptHash,
        tokens::deploy::{DeployTokens, Secret},
    },
    oci::ErrorCode,
};

use crate::support::{
    TestServer,
    raw::GUARD,
    server::{Answer, Answered as _, PASSWORD, USER},
};

/// A token of the tests.
struct Robot {
    secret: Secret,
    line: String,
}

impl Robot {
    fn new(name: &str, rest: &str) -> Self {
        let secret = Secret::generate().unwrap();
        let line = format!("{name} sha256={} {rest}\n", secret.digest());
        Self { secret, line }
    }

    /// One that may read everything.
    fn reading(name: &str, rest: &str) -> Self {
        Self::new(name, &format!("may=pull repositories=** {rest}"))
    }
}

/// Writes the token file, and puts it in force.
async fn put(server: &TestServer, lines: &[&str]) {
    fs::write(server.folder().join("tokens"), lines.concat()).unwrap();
    server.app().reload().await;
}

async fn ask(server: &TestServer, user: &str, password: &str, target: &str) -> Answer {
    server.anonymous("GET", target).basic_auth(user, Some(password)).answer().await
}

async fn login(server: &TestServer, user: &str, password: &str) -> Answer {
    ask(server, user, password, "/v2/").await
}

async fn is_refused_soon(server: &TestServer, robot: &Robot) {
    let begun = Instant::now();
    while login(server, "ci", robot.secret.reveal()).await.status != 401 {
        assert!(begun.elapsed() < GUARD, "it is still let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn outcome(server: &TestServer, name: &str) -> u64 {
    server.app().gate().outcomes().find(|(outcome, _)| *outcome == name).unwrap().1
}

#[tokio::test]
async fn deploy_token_logs_in_without_bcrypt() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", "expires=never");
    put(&server, &["# robots\n", &robot.line]).await;
    for user in ["ci", ""] {
        login(&server, user, robot.secret.reveal()).await.expect(200);
    }
    assert_eq!(server.app().gate().verifications(), 0);
    assert_eq!((outcome(&server, "token"), outcome(&server, "bcrypt")), (2, 0));
    // Neither the user's password nor another name opens anything with it.
    login(&server, USER, robot.secret.reveal()).await.expect(401);
    login(&server, "ci", PASSWORD).await.expect(401);
    login(&server, USER, PASSWORD).await.expect(200);
}

/// docker sends the secret to `/auth/token` where `/v2/` offers a session token.
#[tokio::test]
async fn session_token_of_a_deploy_token_has_its_rights_and_ends_with_its_line() {
    let server = TestServer::start().await;
    let robot = Robot::new("ci", "may=push repositories=team-a/** expires=never");
    let other = Robot::reading("ci", "expires=never");
    put(&server, &[&other.line, &robot.line]).await;
    let scopes = "scope=repository:team-a/app:pull,push&scope=repository:team-b/app:pull,push";
    let target = format!("/auth/token?service=portcullis&{scopes}");
    let answer = ask(&server, "ci", robot.secret.reveal(), &target).await.expect(200);
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let upload = async |name: &str| {
        let request = server.anonymous("POST", &format!("/v2/{name}/blobs/uploads/"));
        request.bearer_auth(&token).answer().await
    };
    upload("team-a/app").await.expect(202);
    upload("team-b/app").await.expect_error(403, ErrorCode::Denied);

    // Another secret of the same name goes on.
    put(&server, &[&other.line]).await;
    upload("team-a/app").await.expect_error(401, ErrorCode::Unauthorized);
    login(&server, "ci", other.secret.reveal()).await.expect(200);
}

#[tokio::test]
async fn secret_is_accepted_as_bearer_too() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", "expires=never");
    put(&server, &[&robot.line]).await;
    let ask =
        async |secret: &str| server.anonymous("GET", "/v2/").bearer_auth(secret).answer().await;
    ask(robot.secret.reveal()).await.expect(200);
    ask(Secret::generate().unwrap().reveal()).await.expect(401);
}

#[tokio::test]
async fn deploy_token_has_the_rights_in_its_line_and_no_more() {
    let server = TestServer::start().await;
    let robot = Robot::new("ci", "may=push repositories=team-a/**,base/go expires=never");
    put(&server, &[&robot.line]).await;
    let secret = robot.secret.reveal();
    let request = async |method: &str, target: &str| {
        let request = server.anonymous(method, target).basic_auth("ci", Some(secret));
        request.answer().await
    };
    request("POST", "/v2/team-a/app/blobs/uploads/").await.expect(202);
    request("POST", "/v2/base/go/blobs/uploads/").await.expect(202);
    request("GET", "/v2/team-a/app/tags/list").await.expect(404);
    for (method, target) in [
        ("POST", "/v2/team-b/app/blobs/uploads/"),
        ("GET", "/v2/team-b/app/tags/list"),
        ("GET", "/v2/base/rust/manifests/latest"),
        ("DELETE", "/v2/team-a/app/manifests/latest"),
        ("DELETE", "/v2/team-a/app/"),
    ] {
        request(method, target).await.expect_error(403, ErrorCode::Denied);
    }
    // Users have no rules, and may do everything.
    server.post("/v2/team-b/app/blobs/uploads/").await.expect(202);
}

/// Requests that take a right: `pull`, `push` or `delete`, and a repository.
const SET_UPS: [(&str, &str, &[&str], &[&str]); 5] = [
    // The pipeline alone pushes releases.
    (
        "release-ci",
        "may=push repositories=release/**",
        &["push release/app", "pull release/app"],
        &["push team/app", "pull team/app", "delete release/app"],
    ),
    // Builds add tags.
    (
        "ci",
        "may=create repositories=app/**",
        &["push app/web", "pull app/web"],
        &["delete app/web", "push web"],
    ),
    // A cluster pulls from several teams.
    (
        "k8s",
        "may=pull repositories=team-a/**,base/**",
        &["pull team-a/app", "pull base/go"],
        &["pull team-b/app", "push team-a/app", "pull base"],
    ),
    // A cleaner deletes, and cannot push.
    (
        "cleaner",
        "may=delete repositories=ci/**",
        &["delete ci/app", "pull ci/app"],
        &["push ci/app", "delete release/app"],
    ),
    // A scanner reads everything.
    ("scanner", "may=pull repositories=**", &["pull a", "pull b/c/d"], &["push a", "delete a"]),
];

#[tokio::test]
async fn deploy_tokens_do_what_their_lines_say_whatever_the_rules_are() {
    let server = TestServer::start().await;
    let rules: Vec<Rule> = serde_json::from_value(serde_json::json!([
        { "who": ["users"], "except": ["release/**"], "may": ["push"] },
        { "who": ["users"], "repositories": ["release/**"], "may": ["pull"] },
    ]))
    .unwrap();
    let robots =
        SET_UPS.map(|(name, rights, ..)| Robot::new(name, &format!("{rights} expires=2999-12-31")));
    let lines: Vec<_> = robots.iter().map(|robot| &*robot.line).collect();
    put(&server, &lines).await;
    let policies = [Policy::everything(), Policy::rules(Access::new(rules, Groups::default()))];
    for policy in policies {
        server.app().gate().set_policy(policy);
        for ((name, _, allowed, denied), robot) in SET_UPS.iter().zip(&robots) {
            let status = async |wanted: &str| {
                let (verb, repository) = wanted.split_once(' ').unwrap();
                let (method, rest) = match verb {
                    "pull" => ("GET", "tags/list"),
                    "push" => ("POST", "blobs/uploads/"),
                    _ => ("DELETE", "manifests/latest"),
                };
                let target = format!("/v2/{repository}/{rest}");
                let request = server.anonymous(method, &target);
                let request = request.basic_auth(name, Some(robot.secret.reveal()));
                request.answer().await.status.as_u16()
            };
            for wanted in *allowed {
                assert!([202, 404].contains(&status(wanted).await), "{name} {wanted}");
            }
            for wanted in *denied {
                assert_eq!(status(wanted).await, 403, "{name} {wanted}");
            }
        }
    }
}

#[tokio::test]
async fn expired_and_wrong_tokens_differ_only_for_who_has_the_secret() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", "expires=2026-01-31");
    put(&server, &[&robot.line]).await;
    let told = login(&server, "ci", robot.secret.reveal()).await;
    let told = told.expect_error(401, ErrorCode::Unauthorized);
    let message = "token ci expired on 2026-01-31: make another one";
    assert_eq!(told.json()["errors"][0]["message"], message);
    assert_eq!(told.header("www-authenticate"), "Basic realm=\"Portcullis\", charset=\"UTF-8\"");
    assert_eq!(server.app().gate().verifications(), 0);

    let visible = |answer: Answer| {
        let mut headers: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        (answer.status, headers, answer.text())
    };
    let other = Secret::generate().unwrap();
    let secret = other.reveal();
    let expected = visible(login(&server, "nobody", "wrong").await.expect(401));
    for (user, password) in [
        ("ci", secret),
        ("ci", &robot.secret.reveal()[..30]),
        ("ci", "wrong"),
        ("nobody", secret),
        ("nobody", robot.secret.reveal()),
        (USER, secret),
        (USER, "wrong"),
        ("", secret),
    ] {
        let answer = visible(login(&server, user, password).await);
        assert_eq!(answer, expected, "{user} {password}");
    }
    // Each of them has cost a run of bcrypt, so that time tells nothing either.
    assert_eq!(server.app().gate().verifications(), 9);
}

#[tokio::test]
async fn revoked_token_is_refused_without_a_signal() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", "expires=never");
    let kept = Robot::reading("k8s", "expires=never");
    put(&server, &[&robot.line, &kept.line]).await;
    login(&server, "ci", robot.secret.reveal()).await.expect(200);
    fs::write(server.folder().join("tokens"), &kept.line).unwrap();
    is_refused_soon(&server, &robot).await;
    login(&server, "k8s", kept.secret.reveal()).await.expect(200);
    // A file that has gone has no tokens, as the log says.
    fs::write(server.folder().join("tokens"), &robot.line).unwrap();
    server.app().reload().await;
    login(&server, "ci", robot.secret.reveal()).await.expect(200);
    fs::remove_file(server.folder().join("tokens")).unwrap();
    is_refused_soon(&server, &robot).await;
}

#[tokio::test]
async fn unreadable_token_file_leaves_the_old_tokens_in_force() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", "expires=never");
    put(&server, &[&robot.line]).await;
    let path = server.folder().join("tokens");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    server.app().reload().await;
    login(&server, "ci", robot.secret.reveal()).await.expect(200);
}

#[tokio::test]
async fn broken_line_opens_nothing_and_hides_no_other() {
    let server = TestServer::start().await;
    let good = Robot::reading("good", "expires=never");
    for (broken, why) in [
        (Robot::reading("ci", ""), "no expiry"),
        (Robot::new("ci", "may=pull expires=never"), "no repositories"),
        (Robot::new("ci", "repositories=** expires=never"), "no rights"),
        (Robot::reading("ci", "expires=soon"), "no date"),
        (Robot::reading("ci", "expires=never usr=ann"), "an unknown field"),
        (Robot::reading("ci", "expires=never expires=never"), "a field twice"),
        (Robot::reading("CI", "expires=never"), "no name"),
        (Robot::reading("# ci", "expires=never"), "a comment"),
    ] {
        put(&server, &[&broken.line, &good.line]).await;
        for user in ["ci", "CI", ""] {
            let answer = login(&server, user, broken.secret.reveal()).await;
            assert_ne!(answer.status, 200, "{why}");
        }
        login(&server, "good", good.secret.reveal()).await.expect(200);
    }
}

#[tokio::test]
async fn token_with_the_name_of_a_user_opens_nothing() {
    let server = TestServer::start().await;
    let robot = Robot::reading(USER, "expires=never");
    put(&server, &[&robot.line]).await;
    for user in [USER, ""] {
        login(&server, user, robot.secret.reveal()).await.expect(401);
    }
    login(&server, USER, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn token_of_a_user_goes_with_the_user() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", &format!("expires=never user={USER}"));
    put(&server, &[&robot.line]).await;
    login(&server, "ci", robot.secret.reveal()).await.expect(200);
    let hash = BcryptHash::new("secret", 4).unwrap();
    let users = server.folder().join("htpasswd");
    fs::write(&users, format!("bob:{}\n", hash.as_str())).unwrap();
    server.app().reload().await;
    login(&server, "ci", robot.secret.reveal()).await.expect(401);
}

#[tokio::test]
async fn rotated_token_accepts_both_secrets_for_a_while() {
    let server = TestServer::start().await;
    let old = Robot::reading("ci", "expires=2999-01-01T00:00:00Z");
    let over = Robot::reading("ci", "expires=2026-01-01T00:00:00Z");
    let new = Robot::reading("ci", "expires=never");
    put(&server, &[&old.line, &over.line, &new.line]).await;
    for robot in [&old, &new] {
        login(&server, "ci", robot.secret.reveal()).await.expect(200);
    }
    let answer = login(&server, "ci", over.secret.reveal()).await.expect(401);
    assert!(answer.text().contains("2026-01-01T00:00:00Z"), "{}", answer.text());
}

#[tokio::test]
async fn wrong_secrets_count_as_wrong_passwords() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", "expires=never");
    put(&server, &[&robot.line]).await;
    let wrong = || Secret::generate().unwrap();
    for _ in 0..10 {
        login(&server, "ci", wrong().reveal()).await.expect(401);
    }
    login(&server, "ci", wrong().reveal()).await.expect(429);
    assert_eq!(server.app().gate().verifications(), 10);
    // No secret can be guessed, so a guesser behind the same address locks no token out.
    login(&server, "ci", robot.secret.reveal()).await.expect(200);
}

#[tokio::test]
async fn last_use_is_kept_beside_the_token_file() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", "expires=never");
    let unused = Robot::reading("k8s", "expires=never");
    put(&server, &[&robot.line, &unused.line]).await;
    login(&server, "ci", robot.secret.reveal()).await.expect(200);
    let folder = server.stop().await;
    let used = fs::read_to_string(folder.path().join("tokens.used")).unwrap();
    assert_eq!(used.lines().count(), 1, "{used}");
    assert!(used.starts_with("ci 2"), "{used}");
    assert!(!used.contains("pcl_"));
}

#[tokio::test]
async fn last_use_that_cannot_be_written_stops_nothing() {
    let server = TestServer::start().await;
    let robot = Robot::reading("ci", "expires=never");
    put(&server, &[&robot.line]).await;
    fs::create_dir(server.folder().join("tokens.used")).unwrap();
    login(&server, "ci", robot.secret.reveal()).await.expect(200);
    let folder = server.stop().await;
    assert!(folder.path().join("tokens.used").is_dir());
}

#[tokio::test]
async fn tokens_of_another_file_are_in_force_after_a_reload() {
    let server = TestServer::start().await;
    let here = Robot::reading("here", "expires=never");
    let there = Robot::reading("there", "expires=never");
    put(&server, &[&here.line]).await;
    let other = server.folder().join("other-tokens");
    fs::write(&other, &there.line).unwrap();
    let mut config = server.config().clone();
    let gate::Options::Htpasswd(options) = &mut config.auth else { panic!("it has users") };
    options.tokens.file = Some(other);
    server.app().apply(&config).await;
    login(&server, "here", here.secret.reveal()).await.expect(401);
    login(&server, "there", there.secret.reveal()).await.expect(200);
}

#[tokio::test]
async fn next_expiry_is_that_of_the_token_that_ends_first() {
    let server = TestServer::start().await;
    assert_eq!(server.app().gate().next_token_expiry(), None);
    let lines = ["never", "2026-01-01", "2999-01-02", "2999-01-01"].map(|expires| {
        let name = format!("t{}", expires.replace('-', ""));
        Robot::reading(&name, &format!("expires={expires}")).line
    });
    let tokens = DeployTokens::parse(lines.concat().as_bytes());
    assert_eq!(tokens.problems().len(), 0);
    server.app().gate().set_tokens(&tokens);
    let left = server.app().gate().next_token_expiry().unwrap();
    let end: jiff::Timestamp = "2999-01-02T00:00:00Z".parse().unwrap();
    let expected = end.as_second() - jiff::Timestamp::now().as_second();
    assert!((expected..expected + 60).contains(&left), "{left}");
}
