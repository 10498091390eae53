//! The commands of five tutorials for registry:2, typed as they stand, against the image.
//!
//! [`TUTORIALS`] has a row for each command, with the answer that it must get. `added` are the
//! commands that Portcullis needs and the tutorial lacks: a user, a login, the authority, an end of
//! the container of an earlier row. Where a tutorial speaks plain HTTP to port 5000, the container
//! has `REGISTRY_HTTP_TLS=off`. `~/.curlrc` has the user, in place of an option on each call.
//! Remarks within a tutorial's command are left out.

use self::machine::Machine;

mod machine;

/// One command of a tutorial.
struct Row {
    /// The commands before it that the tutorial lacks. They must succeed.
    added: &'static str,
    /// The command of the tutorial.
    typed: &'static str,
    must: Must,
    /// Commands that show the effect.
    shown: &'static [Shown],
}

/// What a command must do.
#[derive(Clone, Copy)]
enum Must {
    /// Exit with 0, and print these words.
    Print(&'static [&'static str]),
    /// Exit with another code, and print these words.
    Fail(&'static [&'static str]),
}

/// A command that must succeed, and words of its output.
struct Shown {
    by: &'static str,
    prints: &'static str,
}

use Must::{Fail, Print};

/// How many commands of the tutorials apply to a registry of today.
const ROWS: usize = 37;

#[test]
fn rows_of_the_tutorials_are_37() {
    let rows: usize =
        [REGISTRY, DEPLOYING, FRONT, CACHE, COMPOSE].iter().map(|rows| rows.len()).sum();
    assert_eq!(rows, ROWS);
}

#[test]
fn tutorial_with_the_endpoints_of_the_api_can_be_followed() {
    let Some(mut machine) = Machine::new() else { return };
    machine.follows(REGISTRY);
}

#[test]
fn tutorial_with_users_and_volumes_can_be_followed() {
    let Some(mut machine) = Machine::new() else { return };
    machine.follows(DEPLOYING);
}

#[test]
fn tutorial_with_nginx_in_front_can_be_followed() {
    let Some(mut machine) = Machine::new() else { return };
    machine.has_nginx("mytliulei/docker-registry-nginx-nossl", NGINX_IN_FRONT);
    machine.follows(FRONT);
}

#[test]
fn tutorial_with_a_pull_through_cache_can_be_followed() {
    let Some(mut machine) = Machine::new() else { return };
    machine.follows(CACHE);
}

#[test]
fn tutorial_with_compose_and_a_collection_can_be_followed() {
    let Some(mut machine) = Machine::new() else { return };
    machine.has_nginx("nginx:1.11.5", NGINX_OF_COMPOSE);
    machine.follows(COMPOSE);
}

impl Machine {
    fn follows(&mut self, rows: &[Row]) {
        for row in rows {
            if !row.added.is_empty() {
                self.types(&format!("set -e\n{}", row.added)).succeeds();
            }
            let outcome = self.types(row.typed);
            let words = match row.must {
                Print(words) => {
                    outcome.succeeds();
                    words
                }
                Fail(words) => {
                    outcome.fails();
                    words
                }
            };
            for word in words {
                assert!(outcome.said().contains(word), "no {word:?}: {outcome:?}");
            }
            for Shown { by, prints } in row.shown {
                let shown = self.types(&format!("set -e\n{by}"));
                shown.succeeds();
                assert!(shown.said().contains(prints), "no {prints:?}: {shown:?}");
            }
        }
    }
}

const REGISTRY: &[Row] = &[
    Row {
        added: "",
        typed: "docker run -d -p 5000:5000 --name registry registry",
        must: Print(&[]),
        shown: &[Shown { by: "registry-listens registry", prints: "docker login" }],
    },
    Row {
        added: "docker exec registry htpasswd -Bb auth/htpasswd admin admin
            until docker login localhost:5000 -u admin -p admin; do sleep 0.2; done",
        typed: "docker tag $(docker images -q ubuntu) localhost:5000/ubuntu
            docker push localhost:5000/ubuntu",
        must: Print(&["digest: sha256:"]),
        shown: &[],
    },
    Row {
        added: r#"echo 'DOCKER_OPTS="$DOCKER_OPTS --insecure-registry=192.168.30.144:5000"' \
            >> /etc/default/docker"#,
        typed: "service docker restart",
        must: Print(&[]),
        shown: &[
            Shown { by: "docker start registry && registry-listens registry", prints: "registry" },
            Shown {
                by: "until docker login 192.168.30.144:5000 -u admin -p admin; do sleep 0.2; done",
                prints: "Login Succeeded",
            },
            Shown {
                by: "docker tag ubuntu 192.168.30.144:5000/ubuntu:2
                    docker push 192.168.30.144:5000/ubuntu:2",
                prints: "digest: sha256:",
            },
        ],
    },
    Row {
        added: "",
        typed: "docker search localhost:5000/ubuntu:latest",
        must: Print(&["ubuntu"]),
        shown: &[],
    },
    Row {
        added: "",
        typed: "curl localhost:5000/v1/search/",
        must: Print(&["https://"]),
        shown: &[Shown {
            by: "curl -k -u admin:admin https://localhost:5000/v1/search/",
            prints: r#""num_results":1"#,
        }],
    },
    Row {
        added: r#"echo 'insecure
            user = admin:admin
            silent
            write-out = "<%{http_code}>"' > ~/.curlrc"#,
        typed: r#"base=https://localhost:5000/v2
            digest=$(curl -I $base/ubuntu/manifests/latest | grep -i ^docker-content-digest |
                grep -o 'sha256:[0-9a-f]*')
            layer=$(curl $base/ubuntu/manifests/latest | grep -o 'sha256:[0-9a-f]*' | tail -1)
            curl $base/
            curl $base/ubuntu/tags/list
            curl $base/ubuntu/manifests/latest -o manifest
            curl -X PUT -H 'Content-Type: application/vnd.docker.distribution.manifest.v2+json' \
                --data-binary @manifest $base/ubuntu/manifests/third
            curl -I $base/ubuntu/blobs/$layer -o head
            curl $base/ubuntu/blobs/$layer -o blob
            location() { grep -i ^location: head | tr -d '\r' | cut -d ' ' -f 2; }
            curl -X POST -D head $base/ubuntu/blobs/uploads/
            curl $(location) -o status
            curl -X PATCH --data-binary @blob -D head $(location)
            curl -X PUT -D head "$(location)?digest=sha256:$(sha256sum blob | cut -c -64)"
            curl -X POST -D head $base/ubuntu/blobs/uploads/
            curl -X DELETE $(location)
            curl -X DELETE $base/ubuntu/manifests/$digest
            curl -X DELETE $base/ubuntu/blobs/$layer
            curl $base/_catalog"#,
        must: Print(&[
            "<200>",
            r#"{"name":"ubuntu","tags":["2","latest"]}"#,
            "<201><200><200><202><204><202><201><202><204><202><202>",
            r#"{"repositories":[]}"#,
        ]),
        shown: &[],
    },
];

const DEPLOYING: &[Row] = &[
    Row {
        added: "",
        typed: "docker run -d -p 5000:5000 --restart always --name registry registry:2",
        must: Print(&[]),
        shown: &[Shown { by: "registry-listens registry", prints: "docker login" }],
    },
    Row {
        added: r#"echo '{ "insecure-registries":["localhost:5000"] }' > /etc/docker/daemon.json"#,
        typed: "systemctl daemon-reload
            systemctl restart docker",
        must: Print(&[]),
        shown: &[Shown { by: "registry-listens registry", prints: "data folder is new" }],
    },
    Row {
        added: "docker tag ubuntu localhost:5000/nginx:test
            if docker push localhost:5000/nginx:test; then exit 1; fi
            docker exec registry htpasswd -Bb auth/htpasswd admin admin
            until docker login localhost:5000 -u admin -p admin; do sleep 0.2; done",
        typed: "docker tag ubuntu localhost:5000/nginx:test
            docker push localhost:5000/nginx:test
            docker pull localhost:5000/nginx:test",
        must: Print(&["digest: sha256:", "Image is up to date"]),
        shown: &[],
    },
    Row {
        added: "",
        typed: "docker container stop registry && docker container rm -v registry",
        must: Print(&["registry"]),
        shown: &[Shown { by: "docker volume ls -q | wc -l", prints: "0" }],
    },
    Row {
        added: "mkdir -p /home/xinchen/registry/auth",
        typed: "docker run --entrypoint htpasswd registry:2 -Bbn admin admin \
            >>/home/xinchen/registry/auth/htpasswd",
        must: Print(&[]),
        shown: &[Shown { by: "cat /home/xinchen/registry/auth/htpasswd", prints: "admin:$2" }],
    },
    Row {
        added: "",
        typed: r#"docker run -d \
            -e "REGISTRY_AUTH=htpasswd"  \
            -e "REGISTRY_AUTH_HTPASSWD_REALM=Registry Realm" \
            -e REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd \
            -e REGISTRY_HTTP_ADDR=0.0.0.0:5001 \
            -v /mnt/registry:/var/lib/registry \
            -v /home/xinchen/registry/auth:/auth \
            -p 5000:5001 \
            --name registry-test \
            registry:2"#,
        must: Print(&[]),
        shown: &[Shown { by: "registry-listens registry-test", prints: "5001" }],
    },
    Row {
        added: "docker logout localhost:5000",
        typed: "echo admin | docker login localhost:5000 -u admin --password-stdin",
        must: Print(&["Login Succeeded"]),
        shown: &[
            Shown { by: "docker push localhost:5000/nginx:test", prints: "digest: sha256:" },
            Shown { by: "ls /mnt/registry/docker/registry/v2/repositories", prints: "nginx" },
        ],
    },
    Row {
        added: r#"docker rm -f registry-test
            docker run -d -e REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd -e REGISTRY_HTTP_TLS=off \
                -v /mnt/registry:/var/lib/registry -v /home/xinchen/registry/auth:/auth \
                -p 5000:5000 --name registry-test registry:2
            registry-listens registry-test
            echo 'user = admin:admin
            silent' > ~/.curlrc"#,
        typed: r#"curl -XGET 127.0.0.1:5000/v2/
            curl -XGET 127.0.0.1:5000/v2/_catalog
            curl -XGET 127.0.0.1:5000/v2/nginx/tags/list
            curl -I http://localhost:5000/v2/nginx/manifests/test
            curl -XGET http://localhost:5000/v2/nginx/manifests/test | tee manifest
            blob=$(grep -o 'sha256:[0-9a-f]*' manifest | tail -1)
            curl -XGET http://localhost:5000/v2/nginx/blobs/$blob | wc -c
            curl -I http://localhost:5000/v2/nginx/blobs/$blob"#,
        must: Print(&[
            "{}",
            r#"{"repositories":["nginx"]}"#,
            r#"{"name":"nginx","tags":["test"]}"#,
            "HTTP/1.1 200 OK",
            "schemaVersion",
            "application/octet-stream",
        ]),
        shown: &[],
    },
    Row {
        added: "",
        typed: r#"digest=$(curl -I http://localhost:5000/v2/nginx/manifests/test |
                grep -i ^docker-content-digest | grep -o 'sha256:[0-9a-f]*')
            curl -i -X DELETE http://localhost:5000/v2/nginx/manifests/$digest"#,
        must: Print(&["HTTP/1.1 202 Accepted"]),
        shown: &[Shown {
            by: "curl http://localhost:5000/v2/_catalog",
            prints: r#"{"repositories":[]}"#,
        }],
    },
];

/// The configuration in the tutorial's image of nginx.
const NGINX_IN_FRONT: &str = r"events {}
http {
    server {
        listen 80;
        client_max_body_size 0;
        chunked_transfer_encoding on;
        location / {
            proxy_pass http://registry:5000;
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
        }
    }
}
";

const FRONT: &[Row] = &[
    Row {
        added: "",
        typed: "docker run -d -p 5000:5000 registry:2.0",
        must: Print(&[]),
        shown: &[Shown { by: "registry-listens $(docker ps -ql)", prints: "docker login" }],
    },
    Row {
        added: "",
        typed: "curl http://192.168.30.144:5000",
        must: Print(&["https://192.168.30.144:5000"]),
        shown: &[Shown { by: "curl -k https://192.168.30.144:5000", prints: "Portcullis" }],
    },
    Row {
        added: "docker rm -f $(docker ps -ql)",
        typed: "mkdir -p /opt/data/registry
            docker run -d -p 5000:5000 -v /opt/data/registry:/tmp/registry registry:2.0",
        must: Print(&[]),
        shown: &[Shown { by: "registry-listens $(docker ps -ql)", prints: "/tmp/registry" }],
    },
    Row {
        added: "docker rm -f $(docker ps -ql)
            mkdir -p /home/user/registry-conf
            touch /home/user/registry-conf/config.yml",
        typed: "docker run \
            -d -p 5000:5000 \
            -v /home/user/registry-conf:/registry-conf \
            -e DOCKER_REGISTRY_CONFIG=/registry-conf/config.yml \
            registry:2.0",
        must: Print(&[]),
        shown: &[Shown {
            by: "registry-listens $(docker ps -ql)",
            prints: "REGISTRY_CONFIGURATION_PATH",
        }],
    },
    Row {
        added: "docker rm -f $(docker ps -ql)",
        typed: "docker run \
            -e SETTINGS_FLAVOR=s3 \
            -e AWS_BUCKET=acme-docker \
            -e STORAGE_PATH=/registry \
            -e AWS_KEY=EXAMPLEKEY \
            -e AWS_SECRET=EXAMPLESECRET \
            -e SEARCH_BACKEND=sqlalchemy \
            -p 5000:5000 \
            registry",
        must: Fail(&["SETTINGS_FLAVOR"]),
        shown: &[],
    },
    Row {
        added: r#"echo 'DOCKER_OPTS="$DOCKER_OPTS --insecure-registry 192.168.30.0/24"' \
            >> /etc/default/docker"#,
        typed: "service docker restart",
        must: Print(&[]),
        shown: &[Shown { by: "docker info", prints: "192.168.30.0/24" }],
    },
    Row {
        added: "docker run -d -p 5000:5000 -v /opt/data/registry:/var/lib/registry \
                --name registry registry:2.0
            registry-listens registry
            docker exec registry htpasswd -Bb auth/htpasswd admin admin
            until docker login 192.168.30.144:5000 -u admin -p admin; do sleep 0.2; done",
        typed: "docker tag xfdsend:latest 192.168.30.144:5000/xfdsend:latest
            docker push 192.168.30.144:5000/xfdsend:latest
            docker rmi 192.168.30.144:5000/xfdsend:latest
            docker pull 192.168.30.144:5000/xfdsend:latest",
        must: Print(&["digest: sha256:", "Downloaded newer image"]),
        shown: &[],
    },
    Row {
        added: "docker rm -f registry
            docker run -d -p 5000:5000 -v /opt/data/registry:/var/lib/registry \
                -e REGISTRY_HTTP_TLS=off --name registry registry:2.0
            registry-listens registry
            docker exec registry htpasswd -Bb auth/htpasswd admin admin
            echo 'user = admin:admin' > ~/.curlrc
            until curl -sf http://localhost:5000/v2/; do sleep 0.2; done",
        typed: "curl http://192.168.30.144:5000/v1/search",
        must: Print(&[r#""num_results":1"#, r#""name":"xfdsend""#]),
        shown: &[],
    },
    Row {
        added: "docker rm -f registry",
        typed: "docker run -d -v /opt/data/registry:/tmp/registry -v /opt/data/registry:/var/lib/registry \
                -e REGISTRY_HTTP_TLS=off --name registry  registry:2.0
            docker run -d --name dr-nginx --link registry:registry -p 8080:80 \
                mytliulei/docker-registry-nginx-nossl",
        must: Print(&[]),
        shown: &[
            Shown {
                by: "registry-listens registry
                    docker exec registry htpasswd -Bb auth/htpasswd admin admin
                    until docker login 192.168.30.144:8080 -u admin -p admin; do sleep 0.2; done",
                prints: "Login Succeeded",
            },
            Shown {
                by: "docker tag xfdsend 192.168.30.144:8080/front
                    docker push 192.168.30.144:8080/front
                    docker rmi 192.168.30.144:8080/front
                    docker pull 192.168.30.144:8080/front",
                prints: "Downloaded newer image",
            },
        ],
    },
];

const CACHE: &[Row] = &[
    Row {
        added: "",
        typed: "docker run -d -p 5000:5000 --restart=always --name registry  \
            -v /var/data/docker_registry:/var/lib/registry registry:2",
        must: Print(&[]),
        shown: &[Shown { by: "registry-listens registry", prints: "docker login" }],
    },
    Row {
        added: "docker exec registry htpasswd -Bb auth/htpasswd ann admin
            docker exec registry portcullis certs --host 192.168.30.144
            mkdir -p /etc/docker/certs.d/192.168.30.144:5000
            docker cp registry:/var/lib/portcullis/certs/ca.crt \
                /etc/docker/certs.d/192.168.30.144:5000/ca.crt
            until docker login 192.168.30.144:5000 -u ann -p admin; do sleep 0.2; done",
        typed: "docker tag busybox 192.168.30.144:5000/ann/busybox
            docker push 192.168.30.144:5000/ann/busybox
            docker rmi 192.168.30.144:5000/ann/busybox
            docker pull 192.168.30.144:5000/ann/busybox",
        must: Print(&["digest: sha256:", "Downloaded newer image"]),
        shown: &[Shown {
            by: "ls /var/data/docker_registry/docker/registry/v2/repositories",
            prints: "ann",
        }],
    },
    Row {
        added: "echo 'version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
proxy:
  remoteurl: https://registry-1.docker.io
  username: me
  password: secret' > config.yml",
        typed: "docker run -v $HOME/config.yml:/etc/docker/registry/config.yml registry:2",
        must: Fail(&["/etc/docker/registry/config.yml", "proxy"]),
        shown: &[],
    },
    Row {
        added: "echo 192.168.30.144 myregistry >> /etc/hosts
            docker exec registry portcullis certs --new-authority --host myregistry
            docker cp registry:/var/lib/portcullis/certs/ca.crt ca.crt
            echo 'cacert = ca.crt
            user = ann:admin' > ~/.curlrc
            until curl https://myregistry:5000/v2/; do sleep 0.2; done",
        typed: "curl -X GET https://myregistry:5000/v2/_catalog
            curl -X GET 'https://myregistry:5000/v2/_catalog?n=100&last=ann/a'
            curl -X GET https://myregistry:5000/v2/ann/busybox/tags/list",
        must: Print(&[
            r#"{"repositories":["ann/busybox"]}"#,
            r#"{"name":"ann/busybox","tags":["latest"]}"#,
        ]),
        shown: &[],
    },
];

const NGINX_OF_COMPOSE: &str = r"events {}
http {
    upstream registry { server registry:5000; }
    server {
        listen 80;
        client_max_body_size 0;
        location / {
            proxy_pass http://registry;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
        }
    }
}
";

const COMPOSE: &[Row] = &[
    Row {
        added: "mkdir -p myregistry/config
            cd myregistry
            echo 'version: \"2\"
services:
  nginx:
    image: nginx:1.11.5
    ports: [\"80:80\"]
    links: [registry]
  registry:
    image: registry:2.5.0
    command: [serve, /etc/registry/config.yml]
    volumes:
      - ./data:/var/lib/registry
      - ./config:/etc/registry' > docker-compose.yml
            echo 'version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :5000
  tls: off
auth:
  htpasswd:
    realm: Registry
    path: /etc/registry/htpasswd' > config/config.yml
            docker run --rm --entrypoint htpasswd registry:2 -Bbn admin admin > config/htpasswd
            echo 'user = admin:admin
            silent' > ~/.curlrc",
        typed: "cd myregistry
            docker-compose up -d && registry-listens myregistry_registry_1
            curl http://localhost/v2/_catalog
            docker-compose stop
            docker-compose restart && registry-listens myregistry_registry_1
            docker-compose down
            docker-compose up -d && registry-listens myregistry_registry_1",
        must: Print(&[r#"{"repositories":[]}"#]),
        shown: &[],
    },
    Row {
        added: "echo 'DOCKER_OPTS=\"--insecure-registry localhost\"' > /etc/default/docker",
        typed: "service docker restart",
        must: Print(&[]),
        shown: &[Shown {
            by: "cd myregistry
                docker-compose up -d
                registry-listens myregistry_registry_1",
            prints: "listening",
        }],
    },
    Row {
        added: "until docker login localhost -u admin -p admin; do sleep 0.2; done",
        typed: "docker tag hello-world localhost/library/hello-world
            docker push localhost/library/hello-world",
        must: Print(&["digest: sha256:"]),
        shown: &[],
    },
    Row {
        added: "",
        typed: "docker rmi localhost/library/hello-world
            docker pull localhost/library/hello-world",
        must: Print(&["Downloaded newer image"]),
        shown: &[],
    },
    Row {
        added: "",
        typed: "curl http://localhost/v2/_catalog",
        must: Print(&[r#"{"repositories":["library/hello-world"]}"#]),
        shown: &[],
    },
    Row {
        added: "",
        typed: r#"curl -X GET http://localhost/v2/library/hello-world/tags/list
            curl -H "Accept: application/vnd.docker.distribution.manifest.v2+json" \
                -X GET http://localhost/v2/library/hello-world/manifests/latest | tee manifest
            layer=$(grep -o 'sha256:[0-9a-f]*' manifest | tail -1)
            curl -s -X GET http://localhost/v2/library/hello-world/blobs/$layer -o hello-world.blob
            [ "sha256:$(sha256sum hello-world.blob | cut -c -64)" = $layer ] && echo equal"#,
        must: Print(&[
            r#"{"name":"library/hello-world","tags":["latest"]}"#,
            "application/vnd.docker.container.image.v1+json",
            "equal",
        ]),
        shown: &[],
    },
    Row {
        added: "",
        typed: r#"curl -i -H "Accept: application/vnd.docker.distribution.manifest.v2+json" \
                -X GET http://localhost/v2/library/hello-world/manifests/latest | tee manifest
            digest=$(grep -i ^docker-content-digest manifest | grep -o 'sha256:[0-9a-f]*')
            curl -k -v -s -X DELETE http://localhost/v2/library/hello-world/manifests/$digest"#,
        must: Print(&["HTTP/1.1 202 Accepted"]),
        shown: &[],
    },
    Row {
        added: "",
        typed: "curl -X GET http://localhost/v2/library/hello-world/tags/list",
        must: Print(&[r#"{"name":"library/hello-world","tags":[]}"#]),
        shown: &[],
    },
    Row {
        added: "",
        typed: r#"script -qc 'docker exec -it myregistry_registry_1 /bin/registry garbage-collect --dry-run /etc/registry/config.yml' dry
            script -qc 'docker exec -it myregistry_registry_1 /bin/registry garbage-collect /etc/registry/config.yml' log"#,
        must: Print(&["--grace"]),
        shown: &[Shown {
            by: "script -qc 'docker exec -it myregistry_registry_1 /bin/registry garbage-collect \
                --grace 0s /etc/registry/config.yml' log
                find myregistry/data -name data | wc -l",
            prints: "0",
        }],
    },
];
