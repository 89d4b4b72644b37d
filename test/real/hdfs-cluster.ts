/**
 * A real HDFS on loopback, each daemon a process of its own: one or two NameNodes, DataNodes on addresses of their own
 * (all of 127/8 is this machine), HttpFS where asked for. Everything lies in one temp folder and ends with `stop`; only
 * processes that were started here are ever killed.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { jarsOf, realFile } from './java.ts'

export interface ClusterOptions {
  readonly dataNodes: number
  /** A second NameNode that can take over. */
  readonly hasStandby?: boolean
  readonly hasHttpFs?: boolean
  /** Default 3.5. The jars of 3.4 are those that HttpFS comes with. */
  readonly hadoop?: '3.4' | '3.5'
  /** What the NameNode says DataNode `count` is called, instead of its address. */
  readonly dataNodeName?: (count: number) => string
}

export type DaemonName = 'nn1' | 'nn2' | 'httpfs' | `dn${number}`

interface DaemonSpec {
  readonly main: string
  readonly classPath: string
  readonly properties: readonly string[]
}

const run = promisify(execFile)
const HDFS = 'org.apache.hadoop.hdfs'
/** What Hadoop's own launcher opens for it. */
const opened = ['java.io', 'java.lang', 'java.lang.reflect', 'java.math', 'java.net', 'java.text', 'java.util', 'java.util.concurrent', 'java.util.zip', 'sun.security.util', 'sun.security.x509']
const javaFlags = ['-XX:+IgnoreUnrecognizedVMOptions', '-Djava.net.preferIPv4Stack=true', '-Xmx256m', ...opened.map((name) => `--add-opens=java.base/${name}=ALL-UNNAMED`)]
/** The jars come without these folders, and the servers do not start when they are missing. */
const webFolders = ['hdfs', 'datanode', 'secondary', 'journal', 'static', 'webhdfs']
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024
const READY_MS = 120_000

export class HdfsCluster {
  readonly folder: string
  readonly httpFsUrl: string
  private readonly options: ClusterOptions
  private readonly jars: { readonly hdfs: string; readonly httpFs: string }
  private readonly ports: { readonly rpc: readonly number[]; readonly web: readonly number[]; readonly httpFs: number }
  private readonly daemons = new Map<DaemonName, ChildProcess>()

  private constructor(parts: { folder: string; options: ClusterOptions; jars: HdfsCluster['jars']; ports: HdfsCluster['ports'] }) {
    this.folder = parts.folder
    this.options = parts.options
    this.jars = parts.jars
    this.ports = parts.ports
    this.httpFsUrl = `http://127.0.0.1:${parts.ports.httpFs}`
  }

  static async start(options: ClusterOptions): Promise<HdfsCluster> {
    const isOlder = options.hadoop === '3.4'
    const jars = { hdfs: await jarsOf(isOlder ? 'httpfs' : 'hdfs'), httpFs: options.hasHttpFs === true ? await jarsOf('httpfs') : '' }
    const folder = await mkdtemp(join(tmpdir(), 'tailrace-hdfs-'))
    const [rpc1 = 0, rpc2 = 0, web1 = 0, web2 = 0, httpFs = 0] = await freePorts(5)
    const cluster = new HdfsCluster({ folder, options, jars, ports: { rpc: [rpc1, rpc2], web: [web1, web2], httpFs } })
    try {
      await cluster.prepare()
      await cluster.launch()
      return cluster
    } catch (error) {
      await cluster.stop()
      throw error
    }
  }

  /** As the collector's `hdfs` setting wants it. */
  url(root: string): string {
    const hosts = this.ports.web.slice(0, this.options.hasStandby === true ? 2 : 1).map((port) => `127.0.0.1:${port}`)
    return `http://${hosts.join(',')}${root}`
  }

  /** DataNode number from 1 on. */
  address(dataNode: number): string {
    const spread = process.pid % 16_384
    return `127.${64 + (spread >> 8)}.${spread % 256}.${10 + dataNode}`
  }

  dataNodeAt(host: string): DaemonName {
    for (let count = 1; count <= this.options.dataNodes; count += 1) if (this.address(count) === host) return `dn${count}`
    throw new Error(`${host} is none of our DataNodes`)
  }

  pidOf(name: DaemonName): number {
    const pid = this.daemons.get(name)?.pid
    if (pid === undefined) throw new Error(`${name} does not run`)
    return pid
  }

  /** Answers when the process is gone. */
  async kill(name: DaemonName): Promise<void> {
    const daemon = this.daemons.get(name)
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return
    const gone = new Promise((resolve) => daemon.once('exit', resolve))
    daemon.kill('SIGKILL')
    await gone
  }

  /** It keeps its connections and says nothing more, until `resume`. */
  pause(name: DaemonName): void {
    this.daemons.get(name)?.kill('SIGSTOP')
  }

  resume(name: DaemonName): void {
    this.daemons.get(name)?.kill('SIGCONT')
  }

  async restart(name: DaemonName): Promise<void> {
    await this.kill(name)
    this.spawn(name)
  }

  /** Runs one of Hadoop's own programs. */
  async tool(main: string, ...args: readonly string[]): Promise<string> {
    const { stdout } = await this.java(main, args)
    return stdout
  }

  dfsAdmin(...args: readonly string[]): Promise<string> {
    return this.tool(`${HDFS}.tools.DFSAdmin`, ...args)
  }

  haAdmin(...args: readonly string[]): Promise<string> {
    return this.tool(`${HDFS}.tools.DFSHAAdmin`, ...args)
  }

  shell(...args: readonly string[]): Promise<string> {
    return this.tool('org.apache.hadoop.fs.FsShell', ...args)
  }

  /** Of the files' contents one after another, as Hadoop's own client reads them. */
  async sha256Of(paths: readonly string[]): Promise<string> {
    const child = spawn('java', this.javaArgs('org.apache.hadoop.fs.FsShell', ['-cat', ...paths]), { stdio: ['ignore', 'pipe', 'ignore'] })
    const hash = createHash('sha256')
    const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
    for await (const piece of child.stdout) hash.update(piece as Buffer)
    if ((await exited) !== 0) throw new Error(`FsShell -cat failed for ${paths.join(' ')}`)
    return hash.digest('hex')
  }

  /** All DataNodes that should be there are, and writes are possible. */
  async waitReady(dataNodes = this.options.dataNodes): Promise<void> {
    await this.until('the cluster is ready', async () => {
      const counts = await Promise.all(this.ports.web.map(async (port) => liveDataNodes(port)))
      if (!counts.includes(dataNodes)) return false
      const made = await Promise.all(this.ports.web.map((port) => canWrite(port)))
      return made.includes(true)
    })
  }

  async stop(): Promise<void> {
    for (const name of this.daemons.keys()) await this.kill(name)
    await rm(this.folder, { recursive: true, force: true })
  }

  private async prepare(): Promise<void> {
    for (const name of webFolders) await mkdir(join(this.folder, 'web/webapps', name), { recursive: true })
    await run('javac', ['-d', join(this.folder, 'web'), realFile('java/BoundSockets.java')])
    await this.configure('client', {})
    for (const id of this.nameNodes()) await this.configure(id, this.options.hasStandby === true ? { 'dfs.ha.namenode.id': id } : {})
    for (let count = 1; count <= this.options.dataNodes; count += 1) {
      const at = this.address(count)
      await this.configure(`dn${count}`, {
        'dfs.datanode.address': `${at}:9866`, 'dfs.datanode.http.address': `${at}:9864`, 'dfs.datanode.ipc.address': `${at}:9867`,
        'dfs.datanode.hostname': this.options.dataNodeName?.(count) ?? at, 'dfs.datanode.data.dir': `file://${this.folder}/data-dn${count}`,
        'hadoop.rpc.socket.factory.class.default': 'BoundSockets',
      })
    }
    if (this.options.hasHttpFs === true) await this.configureHttpFs()
  }

  private nameNodes(): readonly ('nn1' | 'nn2')[] {
    return this.options.hasStandby === true ? ['nn1', 'nn2'] : ['nn1']
  }

  private async launch(): Promise<void> {
    await this.java(`${HDFS}.server.namenode.NameNode`, ['-format', '-nonInteractive'], 'nn1')
    this.spawn('nn1')
    if (this.options.hasStandby === true) {
      await this.until('the first NameNode answers', async () => (await liveDataNodes(this.ports.web[0] ?? 0)) !== undefined)
      await this.java(`${HDFS}.server.namenode.NameNode`, ['-bootstrapStandby', '-nonInteractive'], 'nn2')
      this.spawn('nn2')
      await this.until('the second NameNode answers', async () => (await liveDataNodes(this.ports.web[1] ?? 0)) !== undefined)
      await this.haAdmin('-transitionToActive', 'nn1')
    }
    for (let count = 1; count <= this.options.dataNodes; count += 1) this.spawn(`dn${count}`)
    await this.waitReady()
    if (this.options.hasHttpFs !== true) return
    this.spawn('httpfs')
    await this.until('HttpFS answers', async () => (await fetchOk(`${this.httpFsUrl}/webhdfs/v1/?op=GETFILESTATUS&user.name=${userInfo().username}`)))
  }

  private specOf(name: DaemonName): DaemonSpec {
    const classPath = this.classPath(name)
    if (name === 'httpfs') {
      const folders = ['home', 'config', 'log', 'temp'].map((part) => `-Dhttpfs.${part}.dir=${this.folder}/httpfs${part === 'home' ? '' : `/${part}`}`)
      return { main: 'org.apache.hadoop.fs.http.server.HttpFSServerWebServer', classPath: `${this.folder}/httpfs/config:${this.jars.httpFs}`, properties: folders }
    }
    if (name.startsWith('nn')) return { main: `${HDFS}.server.namenode.NameNode`, classPath, properties: [] }
    return { main: `${HDFS}.server.datanode.DataNode`, classPath, properties: [`-Dtailrace.bind=${this.address(Number(name.slice(2)))}`] }
  }

  private spawn(name: DaemonName): void {
    const { main, classPath, properties } = this.specOf(name)
    const log = openSync(join(this.folder, `${name}.log`), 'a')
    const args = [...javaFlags, `-Dhadoop.home.dir=${this.folder}`, ...properties, '-cp', classPath, main]
    this.daemons.set(name, spawn('java', args, { stdio: ['ignore', log, log] }))
    closeSync(log)
  }

  private classPath(configuration: string): string {
    return `${this.folder}/conf-${configuration}:${this.folder}/web:${this.jars.hdfs}`
  }

  private javaArgs(main: string, args: readonly string[], configuration = 'client'): string[] {
    return [...javaFlags, `-Dhadoop.home.dir=${this.folder}`, '-cp', this.classPath(configuration), main, ...args]
  }

  private java(main: string, args: readonly string[], configuration = 'client'): Promise<{ stdout: string; stderr: string }> {
    return run('java', this.javaArgs(main, args, configuration), { maxBuffer: OUTPUT_BYTES_MAX, timeout: 120_000 })
  }

  private async until(what: string, isTrue: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + READY_MS
    while (!(await isTrue())) {
      const dead = [...this.daemons].find(([, daemon]) => daemon.exitCode !== null)
      if (dead !== undefined) throw new Error(`${dead[0]} ended before ${what}:\n${await this.tailOf(dead[0])}`)
      if (Date.now() > deadline) throw new Error(`it took too long until ${what}`)
      await sleep(200)
    }
  }

  private async tailOf(name: DaemonName): Promise<string> {
    return (await readFile(join(this.folder, `${name}.log`), 'utf8')).split('\n').slice(-30).join('\n')
  }

  private async configure(name: string, more: Readonly<Record<string, string>>): Promise<void> {
    const folder = join(this.folder, `conf-${name}`)
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'core-site.xml'), xml({ ...this.coreSite(), ...more }))
    await writeFile(join(folder, 'hdfs-site.xml'), xml({ ...this.hdfsSite(), ...more }))
    await writeFile(join(folder, 'log4j.properties'), logging)
  }

  private async configureHttpFs(): Promise<void> {
    const folder = join(this.folder, 'httpfs/config')
    for (const part of ['config', 'log', 'temp']) await mkdir(join(this.folder, 'httpfs', part), { recursive: true })
    await writeFile(join(folder, 'core-site.xml'), xml(this.coreSite()))
    await writeFile(join(folder, 'hdfs-site.xml'), xml(this.hdfsSite()))
    await writeFile(join(folder, 'log4j.properties'), logging)
    await writeFile(join(folder, 'httpfs-log4j.properties'), logging)
    await writeFile(join(folder, 'httpfs-signature.secret'), 'only for this test')
    const user = userInfo().username
    await writeFile(
      join(folder, 'httpfs-site.xml'),
      xml({
        [`httpfs.proxyuser.${user}.hosts`]: '*', [`httpfs.proxyuser.${user}.groups`]: '*', 'httpfs.hadoop.config.dir': folder,
        'httpfs.http.hostname': '127.0.0.1', 'httpfs.http.port': String(this.ports.httpFs),
      }),
    )
  }

  private coreSite(): Record<string, string> {
    const user = userInfo().username
    return {
      'fs.defaultFS': this.options.hasStandby === true ? 'hdfs://pair' : `hdfs://127.0.0.1:${this.ports.rpc[0]}`,
      'hadoop.tmp.dir': `${this.folder}/tmp`, 'ipc.client.connect.max.retries': '5', 'hadoop.http.staticuser.user': 'nobody',
      [`hadoop.proxyuser.${user}.hosts`]: '*', [`hadoop.proxyuser.${user}.groups`]: '*',
    }
  }

  private hdfsSite(): Record<string, string> {
    const [rpc1, rpc2] = this.ports.rpc
    const [web1, web2] = this.ports.web
    const shared = {
      'dfs.replication': String(Math.min(2, this.options.dataNodes)), 'dfs.namenode.fs-limits.min-block-size': '0', 'dfs.blocksize': '1048576',
      'dfs.namenode.datanode.registration.ip-hostname-check': 'false', 'dfs.namenode.safemode.extension': '0', 'dfs.heartbeat.interval': '1',
      'dfs.namenode.heartbeat.recheck-interval': '2000', 'dfs.namenode.redundancy.interval.seconds': '1s', 'dfs.webhdfs.enabled': 'true',
    }
    if (this.options.hasStandby !== true) {
      return { ...shared, 'dfs.namenode.rpc-address': `127.0.0.1:${rpc1}`, 'dfs.namenode.http-address': `127.0.0.1:${web1}`, 'dfs.namenode.name.dir': `file://${this.folder}/name-nn1` }
    }
    return {
      ...shared, 'dfs.nameservices': 'pair', 'dfs.ha.namenodes.pair': 'nn1,nn2',
      'dfs.namenode.rpc-address.pair.nn1': `127.0.0.1:${rpc1}`, 'dfs.namenode.http-address.pair.nn1': `127.0.0.1:${web1}`,
      'dfs.namenode.rpc-address.pair.nn2': `127.0.0.1:${rpc2}`, 'dfs.namenode.http-address.pair.nn2': `127.0.0.1:${web2}`,
      'dfs.namenode.name.dir.pair.nn1': `file://${this.folder}/name-nn1`, 'dfs.namenode.name.dir.pair.nn2': `file://${this.folder}/name-nn2`,
      'dfs.namenode.shared.edits.dir': `file://${this.folder}/shared-edits`, 'dfs.ha.fencing.methods': 'shell(/bin/true)',
      'dfs.client.failover.proxy.provider.pair': 'org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider',
      'dfs.ha.tail-edits.period': '1s', 'dfs.ha.log-roll.period': '5s',
    }
  }
}

const logging = `log4j.rootLogger=INFO,c
log4j.appender.c=org.apache.log4j.ConsoleAppender
log4j.appender.c.target=System.err
log4j.appender.c.layout=org.apache.log4j.PatternLayout
log4j.appender.c.layout.ConversionPattern=%d %p %c{1}: %m%n
`

function xml(properties: Readonly<Record<string, string>>): string {
  const lines = Object.entries(properties).map(([name, value]) => `<property><name>${name}</name><value>${value}</value></property>`)
  return `<configuration>\n${lines.join('\n')}\n</configuration>\n`
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => new Promise<ReturnType<typeof createServer>>((resolve) => {
      const server = createServer()
      server.listen(0, '127.0.0.1', () => resolve(server))
    })),
  )
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** undefined while that NameNode does not answer. */
async function liveDataNodes(port: number): Promise<number | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState`)
    const count = /"NumLiveDataNodes" : ([0-9]+)/.exec(await response.text())?.[1]
    return count === undefined ? undefined : Number(count)
  } catch (error) {
    if (error instanceof TypeError) return undefined
    throw error
  }
}

async function canWrite(port: number): Promise<boolean> {
  return fetchOk(`http://127.0.0.1:${port}/webhdfs/v1/ready?op=MKDIRS&user.name=${userInfo().username}`, 'PUT')
}

async function fetchOk(url: string, method = 'GET'): Promise<boolean> {
  try {
    return (await fetch(url, { method })).ok
  } catch (error) {
    if (error instanceof TypeError) return false
    throw error
  }
}
