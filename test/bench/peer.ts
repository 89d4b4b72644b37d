/**
 * What a peer is to the benchmark: a version, and two command lines. The agent follows the files, the receiver writes
 * what arrives into one file, whose sequence numbers the harness counts.
 */
import { connect } from 'node:net'
import { Program, freePort, until } from './programs.ts'

export interface PeerSetup {
  /** Scratch folder of this run. */
  readonly folder: string
  /** The files to follow; all of one folder that holds nothing else, named `*.log`. */
  readonly logs: readonly string[]
  readonly logsFolder: string
  readonly port: number
  /** What the receiver writes. */
  readonly output: string
}

export interface PeerCommands {
  readonly agent: readonly string[]
  readonly receiver: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

export interface Peer {
  readonly name: string
  readonly version: string
  /** Writes its configuration into the folder. */
  prepare(setup: PeerSetup): Promise<PeerCommands>
}

export interface RunningPeer {
  readonly agent: Program
  readonly receiver: Program
}

/** The receiver on core 1, once it listens the agent on core 0, as tailrace's two are. */
export async function startPeer(peer: Peer, setup: Omit<PeerSetup, 'port'>): Promise<RunningPeer> {
  const port = await freePort()
  const { agent, receiver, env = {} } = await peer.prepare({ ...setup, port })
  const receiving = new Program({ command: receiver, core: 1, env })
  try {
    await until(`${peer.name} receives`, async () => {
      if (!receiving.isRunning) throw new Error(`the receiver of ${peer.name} ended: ${receiving.said}`)
      return isListening(port)
    }, 20_000)
    return { receiver: receiving, agent: new Program({ command: agent, core: 0, env }) }
  } catch (error) {
    await receiving.stop()
    throw new Error(`${peer.name} does not receive: ${receiving.said}`, { cause: error })
  }
}

export async function stopPeer({ agent, receiver }: RunningPeer): Promise<void> {
  await agent.stop()
  await receiver.stop()
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
