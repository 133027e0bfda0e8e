package main

var scenarios = []*scenario{
	{name: "T1", about: "every etcd is killed and comes back later", run: etcdDown},
	{name: "T3", about: "a gateway is cut off, and etcd compacts its history meanwhile", run: compaction(false), parts: 20},
	{name: "T3-old", about: "the same with Debian's etcd 3.4", run: compaction(true), parts: 20},
	{name: "T4", about: "the member of etcd that a gateway watches hangs", run: hung},
}

// regressions are the seeds that found something.
var regressions = []regression{}
