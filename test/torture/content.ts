/**
 * What the writers write: content that is a function of (seed, file, number), so that the oracle keeps no bytes and can
 * still compare every one of them. The first line of each content names it; lines are numbered.
 */
import { seededRandom } from '../access-log.ts'

/** `odd` has empty lines, CRLF, NUL, bytes that are not UTF-8, and lines longer than the agent's lineBytesMax. */
export type Flavour = 'plain' | 'odd' | 'access'

export interface ContentName {
  readonly seed: number
  readonly file: string
  /** Counts what the file held one after the other: across rotations and truncations. */
  readonly number: number
  readonly flavour: Flavour
}

const FILLER_BYTES = 1024 * 1024
const LONG_LINE_BYTES = 700_000
const ACCESS_LINE_BYTES = 200
const words = ['request', 'accepted', 'from', 'user', 'session', 'timeout', 'while', 'connecting', 'to', 'backend', 'GET', '/index.html', 'status=200', 'bytes=', 'retry', 'ERROR', 'warning:']

/** Makes contents; holds the filler that lines are cut from. */
export class ContentFactory {
  private readonly seed: number
  private readonly filler: Buffer

  constructor(seed: number) {
    this.seed = seed
    this.filler = makeFiller(seed)
  }

  open(name: Omit<ContentName, 'seed'>): Content {
    return new Content({ ...name, seed: this.seed }, this.filler)
  }
}

/** Lines of one content from its beginning. */
export class Content {
  readonly name: ContentName
  private readonly filler: Buffer
  private readonly random: () => number
  private lineNumber = 0
  private rest: Buffer = Buffer.alloc(0)

  constructor(name: ContentName, filler: Buffer) {
    this.name = name
    this.filler = filler
    this.random = seededRandom(hashText(`${name.seed} ${name.file} ${name.number} ${name.flavour}`))
  }

  /** The next line with its newline. */
  nextLine(): Buffer {
    const tag = `${tagOf(this.name)}${String(this.lineNumber).padStart(10, '0')} `
    const isFirst = this.lineNumber === 0
    this.lineNumber += 1
    if (this.name.flavour === 'odd' && !isFirst) return this.oddLine(tag)
    const bytes = this.name.flavour === 'access' ? ACCESS_LINE_BYTES - tag.length - 1 : 20 + Math.floor(this.random() * 160)
    return this.line(tag, bytes, '\n')
  }

  /** The next `length` bytes, wherever lines end. */
  take(length: number): Buffer {
    const pieces = [this.rest]
    let have = this.rest.length
    while (have < length) {
      const line = this.nextLine()
      pieces.push(line)
      have += line.length
    }
    const all = Buffer.concat(pieces)
    this.rest = all.subarray(length)
    return all.subarray(0, length)
  }

  private line(tag: string, bytes: number, end: string): Buffer {
    const from = Math.floor(this.random() * (this.filler.length - bytes))
    return Buffer.concat([Buffer.from(tag), this.filler.subarray(from, from + bytes), Buffer.from(end)])
  }

  private oddLine(tag: string): Buffer {
    const dice = this.random()
    if (dice < 0.05) return Buffer.from('\n')
    if (dice < 0.1) return Buffer.from('\r\n')
    if (dice < 0.2) return this.line(tag, 40, '\r\n')
    if (dice < 0.25) return Buffer.concat([Buffer.from(tag), Buffer.from([0, 0xff, 0xfe, 0x80, 0, 0x1b, 0xc3]), Buffer.from('\n')])
    if (dice < 0.2504) return this.line(tag, LONG_LINE_BYTES, '\n')
    return this.line(tag, Math.floor(this.random() * 300), '\n')
  }
}

function tagOf(name: ContentName): string {
  return `${name.file}#${name.number}#${name.flavour}#`
}

/** The content that bytes from the beginning of a file belong to, told by their first line. */
export function readTag(head: Buffer): Omit<ContentName, 'seed'> | undefined {
  const match = /^([\w/.-]+)#(\d+)#(plain|odd|access)#/.exec(head.subarray(0, 300).toString('latin1'))
  const [, file, number, flavour] = match ?? []
  if (file === undefined || (flavour !== 'plain' && flavour !== 'odd' && flavour !== 'access')) return undefined
  return { file, number: Number(number), flavour }
}

function makeFiller(seed: number): Buffer {
  const random = seededRandom(seed)
  const pieces: string[] = []
  for (let bytes = 0; bytes < FILLER_BYTES; ) {
    const word = random() < 0.3 ? Math.floor(random() * 1e6).toString(36) : (words[Math.floor(random() * words.length)] ?? '')
    pieces.push(word)
    bytes += word.length + 1
  }
  return Buffer.from(pieces.join(' '), 'latin1')
}

export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193) >>> 0
  return hash
}
