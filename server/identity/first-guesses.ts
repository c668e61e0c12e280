/**
 * What is tried first and stands in no list of the West: numbers that sound like words, Chinese phrases and names, what servers
 * and their makers are called, the times of the year, and "password", "hello" and "love" in other languages. Written for
 * TaskDash, the likeliest of each kind first; a judge sees by itself what is made of them with digits, years, capitals and
 * letters that look alike.
 *
 * server/identity and web/src/state have this file alike, since neither may import the other; a test compares them.
 */
const NUMBERS = `
520 1314 521 5201314 1314520 1314521 5211314 201314 584520 584521 7758521 7758258 7758 5203344 3344 9420 530
888 666 168 518 999 688 886 988 110 119 120 10086 10010 12306
147258369 147258 258369 258147 741852963 741852 159357 357159 123654 789456 456123 110110 112358 314159 31415926`;

const PHRASES = `
woaini aini woaiwo woainimen woaita woaiziji woaijia woaiwojia woaizhongguo woaibaba woaimama woaini1314
woaininiaiwo woyongyuanaini xihuanni woxihuanni woxiangni aiwo niaiwo woaini520
woshishui wojiushiwo wojiushi woshiwo woshi woshini nishi nishishui shishui woshitiancai woshihaoren woshibendan
buzhidao wobuzhidao zhidao bugaosuni gaosuni bugaosuniwo nicai nicaicai caibudao suibian buyao meiyou
mima meiyoumima wangjimima wangjile wodemima zheshimima xinmima jiumima wode nide tade women nimen tamen
denglu yonghu guanli guanliyuan zhanghao fuwuqi shujuku xitong gongsi ceshi kaifa renwu
nihao nihaoma dajiahao zaijian xiexie duibuqi meiguanxi huanying zhimakaimen
baobao baobei qinaide laogong laopo mama baba gege jiejie didi meimei yeye nainai erzi pengyou tongxue laoshi
tiantian xiaobao xiaozhu xiaogou xiaomao xiaoxiao xiaoming xiaohong xiaolong xiaoyu feifei beibei dandan lingling
tingting yangyang yuanyuan lele huanhuan doudou maomao niuniu pangpang dudu qiuqiu nannan jiajia
kaixin kuaile xingfu pingan jiankang facai gongxi gongxifacai xinnian xinniankuaile shengrikuaile jiayou haoyun
wudi tiancai shagua bendan zhutou hundan caonima wocao nima tamade wuliao haode keyi weishenme zenmeban
mingtian jintian zuotian xianzai yongyuan yiwannian yishengyishi
zhongguo zhonghua beijing shanghai guangzhou shenzhen chengdu chongqing hangzhou wuhan nanjing tianjin suzhou dalian
qingdao changsha xiamen taiwan xianggang aomen changcheng huanghe changjiang
zhangsan lisi wangwu zhaoliu zhangwei wangwei liwei liuwei chenwei wangfang lifang zhangfang lina wangna zhangna
zhangmin wangmin limin wangjing lijing zhangjing liujing wangli zhangli lili wanglei zhanglei lilei hanmeimei
liuyang liyang zhangyang wangyang wangqiang liqiang zhangqiang wangyan liyan zhangyan wangyong zhangyong liyong
wangjun lijun zhangjun liujun wangchao lichao zhangjie lijie wangjie wangtao zhangtao litao chenjie chenchen
wang zhang chen yang zhao huang zhou sunwukong zhubajie caocao liubei zhangfei guanyu zhugeliang diaochan guojing
weixin wechat taobao zhifubao alipay jingdong baidu tengxun tencent alibaba aliyun huawei xiaomi douyin sina sohu
netease youku renren xunlei csdn tianya dearbook xiazhili ms0083jxj
chuntian xiatian qiutian dongtian chunjie zhongqiu guoqing zhoumo`;

const SERVERS = `
admin root administrator superuser sysadmin system manager operator guest user users login password passwd pass
secret test tester testing demo dev develop developer prod production staging default changeme changeit changethis
welcome letmein hello company office internal private public server servers service services backend frontend
localhost host hostname machine cluster node master replica
task tasks taskboard taskmanager dash dashboard dashboards board monitor monitoring status registry scheduler worker
runner queue job jobs cron heartbeat watcher
postgres postgresql pgsql pgadmin database mysql mariadb oracle mongodb mongo redis sqlserver sqlite
nginx apache tomcat docker kubernetes openshift jenkins gitlab github harbor nexus sonar grafana prometheus kibana
elastic elasticsearch kafka rabbitmq zookeeper consul nacos vault minio hadoop ansible terraform
linux ubuntu debian centos redhat windows azure amazon google microsoft apple cisco
correcthorsebatterystaple opensesame`;

const TIMES = `
spring summer autumn fall winter january february march april may june july august september october november december
monday tuesday wednesday thursday friday saturday sunday weekend holiday christmas newyear easter`;

const OTHER_LANGUAGES = `
пароль привет любовь люблю админ администратор йцукен йцукенг фывапролд солнышко россия москва спартак
наташа марина андрей максим сергей александр дмитрий
密码 口令 管理员 你好 我爱你 我的密码 测试 开发 中国 北京 上海 任务
パスワード こんにちは ありがとう あいしてる さくら 管理者 秘密 日本 비밀번호 암호 사랑해 관리자 안녕하세요 대한민국
contraseña secreto hola teamo tequiero bienvenido senha bemvindo brasil motdepasse bonjour jetaime azerty bienvenue
passwort kennwort geheim willkommen hallo schatz wachtwoord welkom lösenord hemligt adgangskode salasana haslo hasło
heslo jelszó parola şifre sifre merhaba benvenuto κωδικός συνθηματικό סיסמה مرحبا matkhau katasandi`;

export const FIRST_GUESSES: string[] = [NUMBERS, SERVERS, TIMES, OTHER_LANGUAGES, PHRASES].flatMap((words) =>
  words.trim().split(/\s+/),
);
