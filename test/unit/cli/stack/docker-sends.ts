// What `docker stack deploy` and `docker stack config` of the docker command 28.2 made of these files, recorded by a server on loopback:
// the bodies it sent, without nulls, zeros, empty texts and empty objects. Facts to compare with.

export const dockerSends: readonly {
  readonly name: string;
  readonly yaml: string;
  readonly services: readonly unknown[];
  readonly networks: readonly unknown[];
  readonly config: unknown;
}[] = [
  {
    name: "published ports in all forms",
    yaml: "services:\n  s:\n    image: busybox:1\n    ports: ['8080:80', '9000-9001:90-91/udp', '3000', {target: 55, published: 56, mode: host}, {target: 77}]\n",
    services: [
      {
        Name: "st_s",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["s"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
        EndpointSpec: {
          Ports: [
            {
              Protocol: "tcp",
              TargetPort: 3000,
              PublishMode: "ingress",
            },
            {
              TargetPort: 77,
            },
            {
              TargetPort: 55,
              PublishedPort: 56,
              PublishMode: "host",
            },
            {
              Protocol: "tcp",
              TargetPort: 80,
              PublishedPort: 8080,
              PublishMode: "ingress",
            },
            {
              Protocol: "udp",
              TargetPort: 90,
              PublishedPort: 9000,
              PublishMode: "ingress",
            },
            {
              Protocol: "udp",
              TargetPort: 91,
              PublishedPort: 9001,
              PublishMode: "ingress",
            },
          ],
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        s: {
          image: "busybox:1",
          ports: [
            {
              mode: "ingress",
              target: 80,
              published: 8080,
              protocol: "tcp",
            },
            {
              mode: "ingress",
              target: 90,
              published: 9000,
              protocol: "udp",
            },
            {
              mode: "ingress",
              target: 91,
              published: 9001,
              protocol: "udp",
            },
            {
              mode: "ingress",
              target: 3000,
              protocol: "tcp",
            },
            {
              mode: "host",
              target: 55,
              published: 56,
            },
            {
              target: 77,
            },
          ],
        },
      },
    },
  },
  {
    name: "an image by its digest",
    yaml: "services:\n  s:\n    image: reg:5000/a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n  t: {image: 'reg:5000/x'}\n",
    services: [
      {
        Name: "st_s",
        Labels: {
          "com.docker.stack.image":
            "reg:5000/a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image:
              "reg:5000/a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["s"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
      {
        Name: "st_t",
        Labels: {
          "com.docker.stack.image": "reg:5000/x",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "reg:5000/x:latest",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["t"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        s: {
          image:
            "reg:5000/a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        },
        t: {
          image: "reg:5000/x",
        },
      },
    },
  },
  {
    name: "commands as texts",
    yaml: "services:\n  s:\n    image: busybox:1\n    command: sh -c \"echo $$HOME; sleep 1\" --x='a b'\n    entrypoint: /bin/env A=1\n",
    services: [
      {
        Name: "st_s",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
            Command: ["/bin/env", "A=1"],
            Args: ["sh", "-c", "echo $HOME; sleep 1", "--x=a b"],
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["s"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        s: {
          command: ["sh", "-c", "echo $HOME; sleep 1", "--x=a b"],
          entrypoint: ["/bin/env", "A=1"],
          image: "busybox:1",
        },
      },
    },
  },
  {
    name: "update and rollback in part",
    yaml: "services:\n  s:\n    image: busybox:1\n    deploy: {update_config: {order: start-first}, rollback_config: {parallelism: 0}, restart_policy: {condition: none}}\n",
    services: [
      {
        Name: "st_s",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          RestartPolicy: {
            Condition: "none",
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["s"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
        UpdateConfig: {
          Parallelism: 1,
          Order: "start-first",
        },
        RollbackConfig: {
          Parallelism: 0,
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        s: {
          deploy: {
            update_config: {
              order: "start-first",
            },
            rollback_config: {
              parallelism: 0,
            },
            restart_policy: {
              condition: "none",
            },
          },
          image: "busybox:1",
        },
      },
    },
  },
  {
    name: "restart words",
    yaml: "services:\n  a: {image: 'busybox:1', restart: always}\n  b: {image: 'busybox:1', restart: 'on-failure:3'}\n  c: {image: 'busybox:1', restart: unless-stopped}\n  d: {image: 'busybox:1', restart: always, deploy: {restart_policy: {condition: on-failure}}}\n",
    services: [
      {
        Name: "st_a",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          RestartPolicy: {
            Condition: "any",
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["a"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
      {
        Name: "st_b",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          RestartPolicy: {
            Condition: "on-failure",
            MaxAttempts: 3,
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["b"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
      {
        Name: "st_c",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          RestartPolicy: {
            Condition: "any",
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["c"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
      {
        Name: "st_d",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          RestartPolicy: {
            Condition: "on-failure",
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["d"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        a: {
          image: "busybox:1",
          restart: "always",
        },
        b: {
          image: "busybox:1",
          restart: "on-failure:3",
        },
        c: {
          image: "busybox:1",
          restart: "unless-stopped",
        },
        d: {
          deploy: {
            restart_policy: {
              condition: "on-failure",
            },
          },
          image: "busybox:1",
          restart: "always",
        },
      },
    },
  },
  {
    name: "networks with aliases, and one whose name the file says",
    yaml: "services:\n  s: {image: 'busybox:1', networks: {b: {aliases: [x]}, a: null, c: null}}\nnetworks:\n  a: {name: other, attachable: true}\n  b: {driver_opts: {encrypted: ''}, labels: [k=v]}\n  c: {ipam: {driver: default, config: [{subnet: 10.9.0.0/24}]}, internal: true}\n  unused: {}\n",
    services: [
      {
        Name: "st_s",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Networks: [
            {
              Target: "other",
              Aliases: ["s"],
            },
            {
              Target: "st_b",
              Aliases: ["x", "s"],
            },
            {
              Target: "st_c",
              Aliases: ["s"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Attachable: true,
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "other",
      },
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
          k: "v",
        },
        Name: "st_b",
      },
      {
        Driver: "overlay",
        IPAM: {
          Driver: "default",
          Config: [
            {
              Subnet: "10.9.0.0/24",
            },
          ],
        },
        Internal: true,
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_c",
      },
    ],
    config: {
      services: {
        s: {
          image: "busybox:1",
          networks: {
            a: null,
            b: {
              aliases: ["x"],
            },
            c: null,
          },
        },
      },
      networks: {
        a: {
          name: "other",
          attachable: true,
        },
        b: {
          driver_opts: {
            encrypted: "",
          },
          labels: {
            k: "v",
          },
        },
        c: {
          ipam: {
            driver: "default",
            config: [
              {
                subnet: "10.9.0.0/24",
              },
            ],
          },
          internal: true,
        },
        unused: {},
      },
    },
  },
  {
    name: "volumes",
    yaml: "services:\n  s:\n    image: busybox:1\n    volumes: ['data:/data', 'data2:/data2:ro,nocopy', '/abs:/abs:rprivate', '/anon', {type: tmpfs, target: /t, tmpfs: {size: 1000}}, {type: bind, source: /b, target: /b, read_only: true, bind: {propagation: rslave}}, {type: volume, source: ext, target: /e, volume: {nocopy: true}}, {type: volume, source: driven, target: /d}]\nvolumes:\n  data:\n  data2: {labels: {l: v}}\n  ext: {external: true, name: extvol}\n  driven: {driver: nfs, driver_opts: {o: p}, name: dname}\n",
    services: [
      {
        Name: "st_s",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
            Mounts: [
              {
                Type: "volume",
                Source: "st_data",
                Target: "/data",
                VolumeOptions: {
                  Labels: {
                    "com.docker.stack.namespace": "st",
                  },
                },
              },
              {
                Type: "volume",
                Source: "st_data2",
                Target: "/data2",
                ReadOnly: true,
                VolumeOptions: {
                  NoCopy: true,
                  Labels: {
                    "com.docker.stack.namespace": "st",
                    l: "v",
                  },
                },
              },
              {
                Type: "bind",
                Source: "/abs",
                Target: "/abs",
                BindOptions: {
                  Propagation: "rprivate",
                },
              },
              {
                Type: "volume",
                Target: "/anon",
              },
              {
                Type: "tmpfs",
                Target: "/t",
                TmpfsOptions: {
                  SizeBytes: 1000,
                },
              },
              {
                Type: "bind",
                Source: "/b",
                Target: "/b",
                ReadOnly: true,
                BindOptions: {
                  Propagation: "rslave",
                },
              },
              {
                Type: "volume",
                Source: "extvol",
                Target: "/e",
                VolumeOptions: {
                  NoCopy: true,
                },
              },
              {
                Type: "volume",
                Source: "dname",
                Target: "/d",
                VolumeOptions: {
                  Labels: {
                    "com.docker.stack.namespace": "st",
                  },
                  DriverConfig: {
                    Name: "nfs",
                    Options: {
                      o: "p",
                    },
                  },
                },
              },
            ],
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["s"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        s: {
          image: "busybox:1",
          volumes: [
            {
              type: "volume",
              source: "data",
              target: "/data",
            },
            {
              type: "volume",
              source: "data2",
              target: "/data2",
              read_only: true,
              volume: {
                nocopy: true,
              },
            },
            {
              type: "bind",
              source: "/abs",
              target: "/abs",
              bind: {
                propagation: "rprivate",
              },
            },
            {
              type: "volume",
              target: "/anon",
            },
            {
              type: "tmpfs",
              target: "/t",
              tmpfs: {
                size: 1000,
              },
            },
            {
              type: "bind",
              source: "/b",
              target: "/b",
              read_only: true,
              bind: {
                propagation: "rslave",
              },
            },
            {
              type: "volume",
              source: "ext",
              target: "/e",
              volume: {
                nocopy: true,
              },
            },
            {
              type: "volume",
              source: "driven",
              target: "/d",
            },
          ],
        },
      },
      volumes: {
        data: {},
        data2: {
          labels: {
            l: "v",
          },
        },
        driven: {
          name: "dname",
          driver: "nfs",
          driver_opts: {
            o: "p",
          },
        },
        ext: {
          name: "extvol",
          external: true,
        },
      },
    },
  },
  {
    name: "modes",
    yaml: "services:\n  a: {image: 'busybox:1', deploy: {mode: global}}\n  b: {image: 'busybox:1', deploy: {mode: replicated-job, replicas: 4}}\n  c: {image: 'busybox:1', deploy: {mode: global-job}}\n  d: {image: 'busybox:1', deploy: {replicas: 0, endpoint_mode: dnsrr}}\n",
    services: [
      {
        Name: "st_a",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["a"],
            },
          ],
        },
        Mode: {
          Global: {},
        },
      },
      {
        Name: "st_b",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["b"],
            },
          ],
        },
        Mode: {
          ReplicatedJob: {
            MaxConcurrent: 4,
            TotalCompletions: 4,
          },
        },
      },
      {
        Name: "st_c",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["c"],
            },
          ],
        },
        Mode: {
          GlobalJob: {},
        },
      },
      {
        Name: "st_d",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["d"],
            },
          ],
        },
        Mode: {
          Replicated: {
            Replicas: 0,
          },
        },
        EndpointSpec: {
          Mode: "dnsrr",
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        a: {
          deploy: {
            mode: "global",
          },
          image: "busybox:1",
        },
        b: {
          deploy: {
            mode: "replicated-job",
            replicas: 4,
          },
          image: "busybox:1",
        },
        c: {
          deploy: {
            mode: "global-job",
          },
          image: "busybox:1",
        },
        d: {
          deploy: {
            replicas: 0,
            endpoint_mode: "dnsrr",
          },
          image: "busybox:1",
        },
      },
    },
  },
  {
    name: "health checks",
    yaml: "services:\n  a: {image: 'busybox:1', healthcheck: {disable: true}}\n  b: {image: 'busybox:1', healthcheck: {test: true x, interval: 1m30s, retries: 2}}\n  c: {image: 'busybox:1', healthcheck: {test: [CMD, a, b], timeout: 500ms, start_period: 1s, start_interval: 200ms}}\n",
    services: [
      {
        Name: "st_a",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
            Healthcheck: {
              Test: ["NONE"],
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["a"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
      {
        Name: "st_b",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
            Healthcheck: {
              Test: ["CMD-SHELL", "true x"],
              Interval: 90000000000,
              Retries: 2,
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["b"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
      {
        Name: "st_c",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
            Healthcheck: {
              Test: ["CMD", "a", "b"],
              Timeout: 500000000,
              StartPeriod: 1000000000,
              StartInterval: 200000000,
            },
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["c"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        a: {
          healthcheck: {
            disable: true,
          },
          image: "busybox:1",
        },
        b: {
          healthcheck: {
            test: ["CMD-SHELL", "true x"],
            interval: "1m30s",
            retries: 2,
          },
          image: "busybox:1",
        },
        c: {
          healthcheck: {
            test: ["CMD", "a", "b"],
            timeout: "500ms",
            start_period: "1s",
            start_interval: "200ms",
          },
          image: "busybox:1",
        },
      },
    },
  },
  {
    name: "limits, placement and logging",
    yaml: "services:\n  s:\n    image: busybox:1\n    logging: {driver: json-file, options: {max-size: 1m, max-file: '2'}}\n    deploy:\n      labels: [a=b]\n      resources: {limits: {cpus: '0.50', memory: 1.5G, pids: 9}, reservations: {memory: 64k, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}\n      placement: {constraints: [node.role==worker], preferences: [{spread: node.labels.zone}], max_replicas_per_node: 2}\n",
    services: [
      {
        Name: "st_s",
        Labels: {
          a: "b",
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
            },
          },
          Resources: {
            Limits: {
              NanoCPUs: 500000000,
              MemoryBytes: 1610612736,
              Pids: 9,
            },
            Reservations: {
              MemoryBytes: 65536,
              GenericResources: [
                {
                  DiscreteResourceSpec: {
                    Kind: "gpu",
                    Value: 2,
                  },
                },
              ],
            },
          },
          Placement: {
            Constraints: ["node.role==worker"],
            Preferences: [
              {
                Spread: {
                  SpreadDescriptor: "node.labels.zone",
                },
              },
            ],
            MaxReplicas: 2,
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["s"],
            },
          ],
          LogDriver: {
            Name: "json-file",
            Options: {
              "max-file": "2",
              "max-size": "1m",
            },
          },
        },
        Mode: {
          Replicated: {},
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        s: {
          deploy: {
            labels: {
              a: "b",
            },
            resources: {
              limits: {
                cpus: "0.50",
                memory: "1610612736",
                pids: 9,
              },
              reservations: {
                memory: "65536",
                generic_resources: [
                  {
                    discrete_resource_spec: {
                      kind: "gpu",
                      value: 2,
                    },
                  },
                ],
              },
            },
            placement: {
              constraints: ["node.role==worker"],
              preferences: [
                {
                  spread: "node.labels.zone",
                },
              ],
              max_replicas_per_node: 2,
            },
          },
          image: "busybox:1",
          logging: {
            driver: "json-file",
            options: {
              "max-file": "2",
              "max-size": "1m",
            },
          },
        },
      },
    },
  },
  {
    name: "the rest of a container",
    yaml: "services:\n  s:\n    image: busybox:1\n    hostname: h\n    user: '1:2'\n    working_dir: /w\n    environment: [Z=1, A=x=y, E=]\n    labels: {x: 1, y: }\n    tty: true\n    stdin_open: true\n    read_only: true\n    init: true\n    stop_signal: SIGINT\n    stop_grace_period: 2m\n    cap_add: [NET_ADMIN, CAP_SYS_TIME]\n    cap_drop: [all]\n    dns: 1.1.1.1\n    dns_search: [a.b, c.d]\n    extra_hosts: ['a:1.2.3.4', 'b=::1']\n    sysctls: [net.core.somaxconn=1024]\n    ulimits: {nproc: 65535, nofile: {soft: 1, hard: 2}}\n    credential_spec: {file: x.json}\n",
    services: [
      {
        Name: "st_s",
        Labels: {
          "com.docker.stack.image": "busybox:1",
          "com.docker.stack.namespace": "st",
        },
        TaskTemplate: {
          ContainerSpec: {
            Image: "busybox:1",
            Labels: {
              "com.docker.stack.namespace": "st",
              x: "1",
            },
            Hostname: "h",
            Env: ["A=x=y", "E=", "Z=1"],
            Dir: "/w",
            User: "1:2",
            Privileges: {
              CredentialSpec: {
                File: "x.json",
              },
            },
            Init: true,
            StopSignal: "SIGINT",
            TTY: true,
            OpenStdin: true,
            ReadOnly: true,
            StopGracePeriod: 120000000000,
            Hosts: ["1.2.3.4 a", "::1 b"],
            DNSConfig: {
              Nameservers: ["1.1.1.1"],
              Search: ["a.b", "c.d"],
            },
            Sysctls: {
              "net.core.somaxconn": "1024",
            },
            CapabilityAdd: ["CAP_NET_ADMIN", "CAP_SYS_TIME"],
            CapabilityDrop: ["ALL"],
            Ulimits: [
              {
                Name: "nofile",
                Hard: 2,
                Soft: 1,
              },
              {
                Name: "nproc",
                Hard: 65535,
                Soft: 65535,
              },
            ],
          },
          Networks: [
            {
              Target: "st_default",
              Aliases: ["s"],
            },
          ],
        },
        Mode: {
          Replicated: {},
        },
      },
    ],
    networks: [
      {
        Driver: "overlay",
        Labels: {
          "com.docker.stack.namespace": "st",
        },
        Name: "st_default",
      },
    ],
    config: {
      services: {
        s: {
          cap_add: ["NET_ADMIN", "CAP_SYS_TIME"],
          cap_drop: ["all"],
          credential_spec: {
            file: "x.json",
          },
          dns: ["1.1.1.1"],
          dns_search: ["a.b", "c.d"],
          environment: {
            A: "x=y",
            E: "",
            Z: "1",
          },
          extra_hosts: ["a:1.2.3.4", "b:::1"],
          hostname: "h",
          image: "busybox:1",
          init: true,
          labels: {
            x: "1",
            y: "",
          },
          read_only: true,
          stdin_open: true,
          stop_grace_period: "2m0s",
          stop_signal: "SIGINT",
          sysctls: {
            "net.core.somaxconn": "1024",
          },
          tty: true,
          ulimits: {
            nofile: {
              soft: 1,
              hard: 2,
            },
            nproc: 65535,
          },
          user: "1:2",
          working_dir: "/w",
        },
      },
    },
  },
];
