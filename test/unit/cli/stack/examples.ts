// Stacks of the kinds people publish, with images of the lab: a blog with its database, the voting app, a proxy before a web
// service, and monitoring.

export const registry = "registry.lab:5000";

export interface Example {
  readonly name: string;
  readonly files: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string>>;
  /** In the order in which they are created. */
  readonly services: readonly string[];
}

const blog = `
services:
  db:
    image: ${registry}/busybox
    command: sh -c 'echo "$$(cat /run/secrets/db_password)" > /var/lib/mysql/started; exec sleep 1d'
    volumes:
      - db_data:/var/lib/mysql
    restart: always
    environment:
      MYSQL_DATABASE: wordpress
      MYSQL_PASSWORD_FILE: /run/secrets/db_password
    secrets:
      - db_password
    healthcheck:
      test: ["CMD", "test", "-s", "/var/lib/mysql/started"]
      interval: 1s
      retries: 30
  wordpress:
    depends_on:
      db:
        condition: service_healthy
    image: ${registry}/whoami
    ports:
      - "\${BLOG_PORT:-8000}:80"
    restart: always
    environment:
      WORDPRESS_DB_HOST: db:3306
      WORDPRESS_DB_PASSWORD_FILE: /run/secrets/db_password
    secrets:
      - db_password
volumes:
  db_data: {}
secrets:
  db_password:
    environment: DB_PASSWORD
`;

const voting = `
services:
  redis:
    image: ${registry}/busybox
    command: sleep 1d
    networks: [backend]
  db:
    image: ${registry}/busybox
    command: sleep 1d
    env_file: db.env
    volumes: ["db-data:/var/lib/postgresql/data"]
    networks: [backend]
    deploy:
      placement:
        constraints: [node.role == manager]
  vote:
    image: ${registry}/whoami
    ports: ["5000:80"]
    networks: [frontend]
    depends_on: [redis]
    deploy:
      replicas: 2
      update_config: {parallelism: 2, monitor: 500ms}
      restart_policy: {condition: on-failure}
  result:
    image: ${registry}/whoami
    ports: ["5001:80"]
    networks: [backend]
    depends_on: [db]
  worker:
    image: ${registry}/busybox
    command: sleep 1d
    networks: [frontend, backend]
    depends_on: {migrate: {condition: service_completed_successfully}}
    deploy:
      labels: [APP=VOTING]
  migrate:
    image: ${registry}/busybox
    command: "true"
    networks: [backend]
    depends_on: [db]
networks:
  frontend: {}
  backend: {internal: true}
volumes:
  db-data:
`;

const proxy = `
x-defaults: &defaults
  image: ${registry}/whoami
  networks: [proxy]
services:
  traefik:
    <<: *defaults
    command: ["/whoami"]
    entrypoint: []
    ports:
      - {target: 80, published: 8080, protocol: tcp, mode: ingress}
    volumes:
      - /etc/hostname:/etc/host:ro
    deploy:
      placement: {constraints: ["node.role==manager"]}
  whoami:
    extends: {file: common.yaml, service: web}
    networks: [proxy]
networks:
  proxy:
    driver: overlay
    attachable: true
`;

const common = `
services:
  web:
    image: ${registry}/whoami
    deploy:
      replicas: 3
      labels:
        traefik.enable: "true"
        traefik.http.routers.whoami.rule: Host(\`whoami.localhost\`)
        traefik.http.services.whoami.loadbalancer.server.port: 80
`;

const monitoring = `
include:
  - exporters.yaml
services:
  prometheus:
    image: ${registry}/busybox
    command: [sleep, 1d]
    ports: ["9090:9090"]
    configs:
      - {source: prometheus, target: /etc/prometheus/prometheus.yml}
    volumes: ["prometheus:/prometheus"]
    networks: [monitoring]
    user: "65534"
  grafana:
    image: ${registry}/whoami
    ports: ["3000:80"]
    environment:
      GF_SECURITY_ADMIN_PASSWORD__FILE: /run/secrets/grafana
    secrets: [{source: admin, target: grafana, mode: 0444}]
    networks: [monitoring]
    depends_on: [prometheus]
  debug:
    image: ${registry}/busybox
    profiles: [debug]
networks:
  monitoring:
volumes:
  prometheus:
configs:
  prometheus: {file: ./prometheus.yml}
secrets:
  admin: {file: ./admin.txt}
`;

const exporters = `
services:
  node-exporter:
    image: ${registry}/busybox
    command: sleep 1d
    pid: host
    volumes: ["/proc:/host/proc:ro", "/sys:/host/sys:ro,rslave"]
    networks: [monitoring]
    deploy: {mode: global}
networks:
  monitoring:
`;

export const examples: readonly Example[] = [
  {
    name: "a blog and its database",
    files: { "compose.yaml": blog },
    environment: { DB_PASSWORD: "geheim" },
    services: ["db", "wordpress"],
  },
  {
    name: "the voting app",
    files: {
      "compose.yaml": voting,
      "db.env": "POSTGRES_USER=postgres\nPOSTGRES_PASSWORD=postgres\n",
    },
    environment: {},
    services: ["db", "migrate", "redis", "result", "vote", "worker"],
  },
  {
    name: "a proxy before a web service",
    files: { "compose.yaml": proxy, "common.yaml": common },
    environment: {},
    services: ["traefik", "whoami"],
  },
  {
    name: "monitoring",
    files: {
      "compose.yaml": monitoring,
      "exporters.yaml": exporters,
      "prometheus.yml": "global: {scrape_interval: 15s}\n",
      "admin.txt": "admin\n",
    },
    environment: {},
    services: ["prometheus", "grafana", "node-exporter"],
  },
];
