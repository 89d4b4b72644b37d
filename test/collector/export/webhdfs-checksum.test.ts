import { describe, expect, test } from 'vitest'
import { checksumHasher, formatChecksum, hasLayout, hdfsMd5, parseHdfsChecksum } from '../../../collector/export/webhdfs-checksum.ts'
import { patterned, piecewise, sha256 } from './remote-store-contract.ts'

// Answers of GETFILECHECKSUM of Hadoop 3.5.0 to files with these bytes, blocks of 1 MiB.
const answers = [
  { lengthBytes: 1000, repeats: 1, algorithm: 'MD5-of-0MD5-of-512CRC32C', bytes: '000002000000000000000000893bf8aae95e92f95503f6b6e527eb1200000000' },
  { lengthBytes: 2_500_000, repeats: 1, algorithm: 'MD5-of-2048MD5-of-512CRC32C', bytes: '000002000000000000000800150437283749bd42a70330f5eab101d800000000' },
  { lengthBytes: 2_500_000, repeats: 3, algorithm: 'MD5-of-2048MD5-of-512CRC32C', bytes: '000002000000000000000800f2c953553b2bc6a862bafdede87fd6c200000000' },
]

describe('the checksum of HDFS', () => {
  test.each(answers)('of $repeats × $lengthBytes bytes is what Hadoop answered, however the bytes come in pieces', async ({ lengthBytes, repeats, ...answer }) => {
    const bytes = Buffer.concat(Array.from({ length: repeats }, () => patterned(lengthBytes)))
    const parsed = parseHdfsChecksum(answer)
    if (parsed === undefined) throw new Error('the answer was not understood')
    for (const pieceBytes of [64 * 1024, 700, 1024 * 1024]) {
      expect(await hdfsMd5(piecewise(bytes, pieceBytes), parsed)).toEqual({ md5: parsed.md5, sha256: sha256(bytes) })
    }
    const hasher = checksumHasher(parsed)
    for (let at = 0; at < bytes.length; at += 333_333) hasher.update(bytes.subarray(at, at + 333_333))
    expect(hasher.digest()).toBe(formatChecksum(parsed))
    expect(hasLayout(formatChecksum(parsed), parsed)).toBe(true)
    expect(hasLayout(formatChecksum(parsed), { ...parsed, bytesPerCrc: 1024 })).toBe(false)
    const other = Buffer.from(bytes)
    other.writeUInt8(other.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1)
    expect((await hdfsMd5(piecewise(other), parsed)).md5).not.toBe(parsed.md5)
  })

  test.each([
    { algorithm: 'COMPOSITE-CRC32C', bytes: '0'.repeat(64) },
    { algorithm: 'MD5-of-0MD5-of-512CRC32', bytes: '0'.repeat(64) },
    { algorithm: 'MD5-of-0MD5-of-0CRC32C', bytes: '0'.repeat(64) },
    { algorithm: 'MD5-of-0MD5-of-512CRC32C', bytes: 'xyz' },
  ])('$algorithm with $bytes is not one that can be recomputed here', (checksum) => {
    expect(parseHdfsChecksum(checksum)).toBeUndefined()
  })
})
