package main

var scenarios = []*scenario{
	{name: "T1", about: "every etcd is killed and comes back later", run: etcdDown},
	{name: "T2", about: "a node starts while etcd is away", run: coldStart},
	{name: "T3", about: "a gateway is cut off, and etcd compacts its history meanwhile", run: compaction(false), parts: 20},
	{name: "T3-old", about: "the same with Debian's etcd 3.4", run: compaction(true), parts: 20},
	{name: "T3-lost", about: "a watch loses events without a word", run: lostEvents},
	{name: "T4", about: "the member of etcd that a gateway watches hangs", run: hung},
	{name: "T5", about: "etcd is restored from an older backup", run: restored},
	{name: "T5-other", about: "another cluster takes etcd's place", run: otherCluster},
	{name: "T5-wipe", about: "etcd comes back empty", run: wiped},
	{name: "T6", about: "leaders are killed and hang, then the majority goes", run: quorum},
	{name: "T6-members", about: "members of etcd are replaced and defragmented", run: replaced},
	{name: "T7", about: "the Admin API is killed in the middle of writes", run: adminKilled, parts: 10},
	{name: "T8", about: "thousands of keys change every second", run: churn},
	{name: "T9", about: "poison among a thousand items, while running and at a start", run: poisonPill},
	{name: "T13", about: "a node ends while clients of all kinds use it", run: ending},
	{name: "T14", about: "three nodes behind a balancer are replaced one after the other", run: upgrade},
	{name: "reads", about: "a write that was acknowledged is in force everywhere", run: readYourWrites},
	{name: "size", about: "many routes are loaded, and one of them changes", run: size},
	{name: "T26", about: "certificates are replaced under load", run: rotation},
	{name: "T29", about: "the line to etcd is slow, narrow, and breaks", run: slowEtcd},
}

// regressions are the seeds that found something.
var regressions = []regression{
	{scenario: "T8", seed: 1, found: "a node kept every snapshot that it ever had in memory"},
	{scenario: "T9", seed: 1, found: "nodes took a stored item with a member twice, and the last of the two"},
}
