/** Metrics on prom-client, behind our own interface so that a test or simulator can count without it. */
import * as prom from 'prom-client'
import type { Metrics } from '../system.ts'

export function promMetrics(): Metrics {
  const registry = new prom.Registry()
  const once = <M>(name: string, make: () => M): M => {
    const known = registry.getSingleMetric(name)
    return known === undefined ? make() : (known as M)
  }
  return {
    counter: (name, help, labelNames = []) => {
      const counter = once(name, () => new prom.Counter({ name, help, labelNames: [...labelNames], registers: [registry] }))
      return { add: (count, labels) => (labels === undefined ? counter.inc(count) : counter.inc(labels, count)) }
    },
    gauge: (name, help, labelNames = []) => {
      const gauge = once(name, () => new prom.Gauge({ name, help, labelNames: [...labelNames], registers: [registry] }))
      return { set: (value, labels) => (labels === undefined ? gauge.set(value) : gauge.set(labels, value)) }
    },
    histogram: (name, help, buckets, labelNames = []) => {
      const histogram = once(
        name,
        () => new prom.Histogram({ name, help, buckets: [...buckets], labelNames: [...labelNames], registers: [registry] }),
      )
      return { observe: (value, labels) => (labels === undefined ? histogram.observe(value) : histogram.observe(labels, value)) }
    },
    render: () => registry.metrics(),
  }
}
