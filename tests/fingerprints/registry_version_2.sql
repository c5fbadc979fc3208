CREATE TABLE checkpoints (
	size BIGINT NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (size)
);
INSERT INTO "checkpoints" VALUES(6,'example.com/fingerprints
6
ueFptMit9BbYp7deOXeLs6nzj2d41RWkTLJxFhW+qmI=

— example.com/fingerprints j8VJgtjgyB8m6ERtMCyqxvJS94GMf40mKOkQ5K1NuAWWc0i5qbx6OxYGfyV5vEVCbFiHmeEpLym2UnXFHw3ofLm6sQM=
');
CREATE TABLE events (
	seq BIGINT NOT NULL, 
	event TEXT NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "events" VALUES(0,'{"actor":"owner@server","fields":{"sealing":null,"version":2},"kind":"registry_created","previous":"0000000000000000000000000000000000000000000000000000000000000000","seq":0,"time":"2026-11-24T22:59:17+00:00"}','64febecca808fefc496cbcf3ae594b34f92180a3cfe03d1c14f0a73aa1fcdcf2');
INSERT INTO "events" VALUES(1,'{"actor":"owner@server","fields":{"minimum_distance":1,"model_digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","num_bits":32},"kind":"model_registered","previous":"64febecca808fefc496cbcf3ae594b34f92180a3cfe03d1c14f0a73aa1fcdcf2","seq":1,"time":"2026-11-24T22:59:18+00:00"}','14029580247c8a06701ae1d612ea6c3d821af12d0285378789af3822fe5cf243');
INSERT INTO "events" VALUES(2,'{"actor":"owner@server","fields":{"code":"10000110001000110010011100010100","model_digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","name":"ann","process":{"host":"vm","pid":26606,"started":3433750},"user":"ann"},"kind":"code_reserved","previous":"14029580247c8a06701ae1d612ea6c3d821af12d0285378789af3822fe5cf243","seq":2,"time":"2026-11-24T22:59:18+00:00"}','48629a9951b1dbdca0fba98678d8511b6ae28afbf5be67b4be65eda3bbbbf021');
INSERT INTO "events" VALUES(3,'{"actor":"owner@server","fields":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","location":"instances/ann","name":"ann","reservation":2},"kind":"instance_issued","previous":"48629a9951b1dbdca0fba98678d8511b6ae28afbf5be67b4be65eda3bbbbf021","seq":3,"time":"2026-11-24T22:59:18+00:00"}','7364c43145bfc70cbb13beedfd65d29bd9a0a871ae254268aaf0aab2e626e9e2');
INSERT INTO "events" VALUES(4,'{"actor":"owner@server","fields":{"code":"00011011011011011001011100100101","model_digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","name":"bob","process":{"host":"vm","pid":26606,"started":3433750},"user":"bob"},"kind":"code_reserved","previous":"7364c43145bfc70cbb13beedfd65d29bd9a0a871ae254268aaf0aab2e626e9e2","seq":4,"time":"2026-11-24T22:59:18+00:00"}','4890713a8459c689170446c1da188a4fd5f8c62bfef7b6db356945f44d9d43d5');
INSERT INTO "events" VALUES(5,'{"actor":"owner@server","fields":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","location":"instances/bob","name":"bob","reservation":4},"kind":"instance_issued","previous":"4890713a8459c689170446c1da188a4fd5f8c62bfef7b6db356945f44d9d43d5","seq":5,"time":"2026-11-24T22:59:18+00:00"}','2a736bc560e9f425ff1d1fe666d1bd53e67f67b9aa8e93e43b4b68c35239f53e');
CREATE TABLE meta (
	"key" VARCHAR(32) NOT NULL, 
	value VARCHAR(255) NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','2');
