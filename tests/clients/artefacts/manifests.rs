//! The manifests for Kubernetes and the chart in `contrib/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testkit::process::{Outcome, client};
use testkit::require::{self, Need};

const MANIFESTS: &str = "contrib/kubernetes/portcullis.yaml";
const CHART: &str = "contrib/helm/portcullis";
const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

#[test]
fn variables_of_the_manifests_are_options_without_a_warning() {
    let manifests = fs::read_to_string(root().join(MANIFESTS)).expect("the manifests");
    accepted(&variables(&manifests));
}

#[test]
fn chart_passes_helm_lint_and_makes_the_manifests() {
    if !require::met("helm", &[Need::Toolchain("helm")]) {
        return;
    }
    let chart = root().join(CHART);
    Outcome::of(client("helm").args(["lint", "--strict"]).arg(&chart)).succeeds();

    let mut template = client("helm");
    template.args(["template", "portcullis"]).arg(&chart);
    template.args(["--set", "tls.issuer.name=letsencrypt"]);
    let made = Outcome::of(&mut template).succeeds();
    let manifests = fs::read_to_string(root().join(MANIFESTS)).expect("the manifests");
    assert_eq!(variables(&made), variables(&manifests));
    for kind in ["PersistentVolumeClaim", "Certificate", "Service", "Deployment"] {
        assert!(made.contains(&format!("\nkind: {kind}\n")), "{kind} is missing in\n{made}");
    }

    template.args(["--set-string", "env.REGISTRY_STORAGE_DELETE_ENABLED=false"]);
    accepted(&variables(&Outcome::of(&mut template).succeeds()));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The variables of the container, from lines `- name: NAME` with `value: VALUE` below.
fn variables(yaml: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = yaml.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("- name: ")?;
        let value = pair[1].strip_prefix("value: ")?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    });
    pairs.collect()
}

fn accepted(variables: &[(String, String)]) {
    assert!(variables.len() >= 4, "{variables:?}");
    let directory = TempDir::new().expect("a temporary directory");
    let mut show = Command::new(BINARY);
    show.arg("config").env_clear().envs(variables.iter().cloned()).current_dir(directory.path());
    let shown = Outcome::of(&mut show);
    shown.succeeds();
    for (name, _) in variables {
        assert!(shown.said().contains(name), "{name} is not an option:\n{}", shown.said());
    }
    assert!(!shown.said().contains("warning"), "{}", shown.said());
}
