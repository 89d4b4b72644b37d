/**
 * Kafka's and Hadoop's own code as a judge: fetches the jars once by Maven and runs their classes. Where Java or Maven
 * are absent, the suites say so loudly and skip.
 */
import { execFile, execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024

type Tool = 'java' | 'javac' | 'mvn'

/** Why Java code can't run here, or undefined when it can. The answer is printed, since a quiet skip looks like a pass. */
export function reasonToSkip(suite: string, tools: readonly Tool[] = ['java', 'mvn']): string | undefined {
  const missing = tools.filter((tool) => !isInstalled(tool))
  if (missing.length === 0) return undefined
  const reason = `${missing.join(' and ')} not found: the real thing can't judge us on this machine`
  console.warn(`\n*** SKIPPED ${suite}: ${reason} ***\n`)
  return reason
}

function isInstalled(tool: string): boolean {
  try {
    execFileSync(tool, ['-version'], { stdio: 'ignore', timeout: 60_000 })
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return false
    throw new Error(`${tool} -version failed, so it is there but broken`, { cause: error })
  }
}

/** A file of this folder, also for a program that is bundled into dist/. */
export function realFile(name: string): string {
  return fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? name : `../test/real/${name}`, import.meta.url))
}

/** The class path of everything that Kafka's broker, client and tools need. */
export function kafkaClassPath(): Promise<string> {
  return jarsOf('kafka')
}

/** The class path of everything in `poms/<name>.xml`. */
export async function jarsOf(name: string): Promise<string> {
  const { stdout } = await run('bash', [realFile('fetch-jars.sh'), name], { timeout: 600_000 })
  return `${stdout.trim()}/*`
}

export interface JavaOutput {
  readonly stdout: string
  readonly stderr: string
}

/** Runs a main class, or a `.java` source file. Rejects when it exits with anything but 0. */
export async function runJava(classPath: string, main: string, args: readonly string[]): Promise<JavaOutput> {
  return run('java', ['-Xmx512m', '-cp', classPath, main, ...args], { maxBuffer: OUTPUT_BYTES_MAX, timeout: 300_000 })
}
